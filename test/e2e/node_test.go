//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// edgeName is the name that the registries have on the nodes, because runtimes have rules of
// their own for 127.0.0.1.
const edgeName = "edge.test"

// An edge is a registry with one kind of trust.
type edge struct {
	kind     string
	endpoint string // http://edge.test:PORT, or https
	host     string // edge.test:PORT
	ca       string // the authority's file; "" is none
	token    instance.Login
	password string // the file with the token's password
}

// startEdges starts a registry with each kind of trust. All have an image that a token may
// pull, as apps/private, as docker.io/library/mirrored and as hub/library/mirrored, and one that
// anybody may pull, as library/mirrored.
func startEdges(t *testing.T) []edge {
	t.Helper()
	cert, key := certificate(t, edgeName)
	var edges []edge
	for _, s := range []struct {
		kind, ca string
		args     []string
	}{
		{kind: "http"},
		{"certificate", cert, []string{"--tls-cert", cert, "--tls-key", key}},
		{"own-ca", "tls/ca.crt", []string{"--tls", "own-ca", "--tls-names", edgeName + ",127.0.0.1"}},
	} {
		root := instance.Start(t, instance.Options{Args: s.args})
		ca := s.ca
		if ca != "" && !filepath.IsAbs(ca) {
			ca = filepath.Join(root.DataDir, ca)
		}
		sh := root.Admin(t, "root", "SSL_CERT_FILE="+ca)
		img := image.New(t, image.Options{Seed: 60, Layers: []int64{1000, 20}})
		for _, repo := range []string{"apps/private", "docker.io/library/mirrored", "hub/library/mirrored",
			"library/mirrored"} {
			sh.Run(t, "push-layout", img.Dir, "root/"+repo+":v1")
		}
		sh.Run(t, "scope-map", "create", "--name", "pullers", "--repository", "apps/private", "content/read",
			"metadata/read", "--repository", "docker.io/*", "content/read", "metadata/read", "--repository", "hub/*",
			"content/read", "metadata/read")
		sh.Run(t, "scope-map", "create", "--name", "anybody", "--repository", "library/*", "content/read",
			"metadata/read", "--anonymous-from", "127.0.0.0/8")
		_, port, _ := strings.Cut(root.Host, ":")
		scheme, _, _ := strings.Cut(root.URL, ":")
		one := edge{kind: s.kind, host: edgeName + ":" + port, ca: ca, token: instance.Token(t, sh, "node", "pullers")}
		one.endpoint = scheme + "://" + one.host
		one.token.Host = one.host
		one.password = filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(one.password, []byte(one.token.Password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, one)
	}
	return edges
}

// A machine is a node whose configuration is in a scratch directory. Its processes see it in
// place of this machine's.
type machine struct{ root string }

// nodeDirs are the directories and files of a machine that are its own.
var nodeDirs = []string{"etc/hosts", "etc/containerd", "etc/docker", "etc/containers"}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a node's processes need root")
	}
	m := &machine{shortDir(t)}
	for _, dir := range nodeDirs[1:] {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"run", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing leaves this machine: Docker Hub refuses connections.
	m.write(t, "etc/hosts", "127.0.0.1 localhost "+edgeName+
		"\n127.0.0.1 registry-1.docker.io auth.docker.io index.docker.io docker.io\n")
	m.write(t, "etc/containers/policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	return m
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command returns a process of the machine.
func (m *machine) command(program string, args ...string) *exec.Cmd {
	const enter = `set -e
for d in %s; do mount --bind "$0/$d" "/$d"; done
exec "$@"`
	all := append([]string{"--mount", "sh", "-c", fmt.Sprintf(enter, strings.Join(nodeDirs, " ")), m.root, program},
		args...)
	return exec.Command("unshare", all...)
}

// ferry runs a command of ferry outside of the machine, as in a DaemonSet.
func (m *machine) ferry(t *testing.T, args ...string) string {
	t.Helper()
	out, err := instance.Output(exec.Command(instance.Binary(t), append(args, "--host-root", m.root)...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// configure returns the arguments of ferry client configure.
func (s *edge) configure(runtime string, more ...string) []string {
	args := []string{"client", "configure", runtime, "--endpoint", s.endpoint}
	if s.ca != "" {
		args = append(args, "--ca", s.ca)
	}
	return append(args, more...)
}

// withToken are the arguments with which a node logs in.
func (s *edge) withToken() []string {
	return []string{"--token", s.token.User, "--password-file", s.password}
}

// files returns mode and digest of every file of the machine's configuration.
func (m *machine) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Join(m.root, "etc"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", sha256.Sum256(content))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " " + target
		}
		all[strings.TrimPrefix(path, m.root)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// restore restores the machine, and fails the test if its files differ from before.
func (m *machine) restore(t *testing.T, before map[string]string) {
	t.Helper()
	m.ferry(t, "client", "restore")
	if diff := cmp.Diff(before, m.files(t)); diff != "" {
		t.Errorf("restored files differ (-before +now):\n%s", diff)
	}
}

func TestWatchRestoresTheNodeWhenItStops(t *testing.T) {
	m := &machine{t.TempDir()}
	for _, dir := range []string{"etc/containerd", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write(t, "etc/containerd/config.toml", "version = 3\n")
	before := m.files(t)
	cmd := exec.Command(instance.Binary(t), "client", "configure", "auto", "--endpoint", "https://edge.test",
		"--host-root", m.root, "--watch")
	daemon.Start(t, cmd, func(line string) string {
		if strings.Contains(line, "changed the node") && strings.Contains(line, "certs.d:") { // the last file
			return line
		}
		return ""
	})
	if cmp.Equal(before, m.files(t)) {
		t.Error("nothing was changed")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.files(t)); diff != "" {
		t.Errorf("restored files differ (-before +now):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(m.root, "var/lib/ferry-client")); err == nil {
		t.Error("the state was left")
	}
}
