//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ferry/test/image"
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

// Both charts of this repository travel through Ferry: helm pushes them to one, and renders them
// from there. The pull secret in the result is that of the sync token, and pulls the image.
func TestFerrysChartsAreInstalledFromFerry(t *testing.T) {
	root := startRoot(t)
	sh := root.Admin(t, "root")
	img := image.New(t, image.Options{Seed: 40, Layers: []int64{1000}})
	if err := root.AsAdmin(t).Push(t.Context(), "ferry", img); err != nil {
		t.Fatal(err)
	}
	connection := instance.Connect(t, sh, "ship1", root.Host, []string{"ferry"})
	l := pushToken(t, root, "charts/*")
	dir := t.TempDir()
	helm := newHelm(t, dir)
	if err := login(helm, l); err != nil {
		t.Fatal(err)
	}
	for chart, flags := range map[string][]string{
		"registry":           {"--set", "image.repository=" + root.Host + "/ferry"},
		"connected-registry": {"--set", "connectionString=" + connection.ConnectionString, "--set", "httpEnabled=true"},
	} {
		for _, args := range [][]string{
			{"package", "../../charts/" + chart, "--destination", dir, "--version", "1.2.3", "--app-version", "4.5.6"},
			{"push", filepath.Join(dir, chart+"-1.2.3.tgz"), "oci://" + l.Host + "/charts", "--plain-http"},
		} {
			if _, err := helm.run(args...); err != nil {
				t.Fatal(err)
			}
		}
		out, err := helm.run(append([]string{"template", "site", "oci://" + l.Host + "/charts/" + chart,
			"--version", "1.2.3", "--plain-http"}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		if want := `image: "` + root.Host + `/ferry:4.5.6"`; !strings.Contains(out, want) {
			t.Errorf("%s: there is no %s in\n%s", chart, want, out)
		}
		if chart == "registry" {
			continue
		}
		encoded := regexp.MustCompile(`\.dockerconfigjson: (\S+)`).FindStringSubmatch(out)
		if encoded == nil {
			t.Fatalf("there is no pull secret in\n%s", out)
		}
		text, err := base64.StdEncoding.DecodeString(encoded[1])
		if err != nil {
			t.Fatal(err)
		}
		var secret struct {
			Auths map[string]struct{ Username, Password string }
		}
		if err := json.Unmarshal(text, &secret); err != nil {
			t.Fatal(err)
		}
		auth := secret.Auths[root.Host]
		puller := instance.Login{Host: root.Host, User: auth.Username, Password: auth.Password}
		if got, err := puller.Pull(t.Context(), "ferry", "v1"); err != nil || got != img.Digest {
			t.Errorf("pulled %s with the pull secret, want %s: %v", got, img.Digest, err)
		}
	}
}
