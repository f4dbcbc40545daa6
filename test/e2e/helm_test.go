//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ferry/test/instance"
)

// newHelm returns helm with its files in dir.
func newHelm(t *testing.T, dir string) command {
	return command{path: program(t, "helm"), env: []string{
		"HELM_CONFIG_HOME=" + dir, "HELM_CACHE_HOME=" + dir, "HELM_DATA_HOME=" + dir,
		"HELM_REGISTRY_CONFIG=" + filepath.Join(dir, "registry.json"), "DOCKER_CONFIG=" + dir,
	}}
}

func TestHelmPushesAndPullsAChart(t *testing.T) {
	l := pushToken(t, startRoot(t), "charts/*")
	dir := t.TempDir()
	helm := newHelm(t, dir)
	chart := filepath.Join(dir, "harbour")
	if err := os.MkdirAll(filepath.Join(chart, "templates"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: harbour\nversion: 0.1.0\n",
		"values.yaml": "berths: 3\n",
		"templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: harbour\n" +
			"data:\n  berths: {{ .Values.berths | quote }}\n",
	} {
		if err := os.WriteFile(filepath.Join(chart, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pulled := filepath.Join(dir, "pulled")
	if err := os.Mkdir(pulled, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := login(helm, l); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"package", chart, "--destination", dir},
		{"push", filepath.Join(dir, "harbour-0.1.0.tgz"), "oci://" + l.Host + "/charts", "--plain-http"},
		{"pull", "oci://" + l.Host + "/charts/harbour", "--version", "0.1.0", "--plain-http", "--destination", pulled},
	} {
		if _, err := helm.run(args...); err != nil {
			t.Fatal(err)
		}
	}
	pushed, err := os.ReadFile(filepath.Join(dir, "harbour-0.1.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(pulled, "harbour-0.1.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, pushed) {
		t.Error("the pulled chart differs from the pushed one")
	}
}

func TestHelmIsRefusedWithTheWrongPassword(t *testing.T) {
	l := pushToken(t, startRoot(t), "charts/*")
	l.Password = "wrong"
	if err := login(newHelm(t, t.TempDir()), l); err == nil {
		t.Fatal("helm logged in with the wrong password")
	}
}

func login(helm command, l instance.Login) error {
	_, err := helm.feed(l.Password, "registry", "login", l.Host, "--username", l.User, "--password-stdin",
		"--plain-http")
	return err
}
