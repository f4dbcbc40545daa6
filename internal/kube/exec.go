package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A plugin is a program that prints credentials, such as those of cloud providers.
type plugin struct {
	APIVersion string   `yaml:"apiVersion"`
	Command    string   `yaml:"command"`
	Args       []string `yaml:"args"`
	Env        []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	InstallHint string `yaml:"installHint"`
	ClusterInfo bool   `yaml:"provideClusterInfo"`
}

// An execStatus is the answer of a plugin.
type execStatus struct {
	Token                 string `json:"token"`
	ClientCertificateData string `json:"clientCertificateData"` // PEM
	ClientKeyData         string `json:"clientKeyData"`
}

// run runs the plugin. A path with a slash is relative to dir.
func (p *plugin) run(ctx context.Context, dir string, stderr io.Writer) (s execStatus, err error) {
	versions := []string{"client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"}
	if !slices.Contains(versions, p.APIVersion) || p.ClusterInfo {
		return s, hinted{fmt.Errorf("the exec plugin %.80q wants %.80q, or information about the cluster, "+
			"which ferry does not support", p.Command, p.APIVersion),
			"kubectl apply -f - applies the manifest that ferry prints without --apply"}
	}
	command := p.Command
	if strings.ContainsRune(command, os.PathSeparator) {
		command = inDir(dir, command)
	}
	cmd := exec.CommandContext(ctx, command, p.Args...)
	info, err := json.Marshal(map[string]any{
		"apiVersion": p.APIVersion, "kind": "ExecCredential", "spec": map[string]any{"interactive": false}})
	if err != nil {
		return s, err
	}
	cmd.Env = os.Environ()
	for _, e := range p.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.Env = append(cmd.Env, "KUBERNETES_EXEC_INFO="+string(info))
	var out bounded
	cmd.Stdout, cmd.Stderr = &out, stderr
	if err := cmd.Run(); err != nil {
		return s, hinted{fmt.Errorf("run the exec plugin %.80q: %w", p.Command, err), cmp.Or(p.InstallHint,
			"kubectl runs the same program; ferry gives it no terminal")}
	}
	var answer struct {
		APIVersion, Kind string
		Status           *execStatus
	}
	// The error of the decoder may quote a secret.
	if json.Unmarshal(out.Bytes(), &answer) != nil || answer.Kind != "ExecCredential" || answer.Status == nil {
		return s, fmt.Errorf("the exec plugin %.80q printed no ExecCredential", p.Command)
	}
	return *answer.Status, nil
}

// A bounded buffer refuses more than 1 MiB.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 1<<20 {
		return 0, errors.New("it printed more than 1 MiB")
	}
	return b.Buffer.Write(p)
}

func decode(text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("a field that ends in -data is not base64")
	}
	return data, nil
}
