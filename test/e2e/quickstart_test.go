//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// shellBlock is an example in a page.
var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

func TestQuickStartRunsAsWritten(t *testing.T) {
	path := []string{filepath.Dir(instance.Binary(t)), filepath.Dir(program(t, "skopeo")),
		filepath.Dir(program(t, "podman")), os.Getenv("PATH")}
	dir := shortDir(t)
	cert, key := certificate(t)
	storage := "[storage]\ndriver = \"vfs\"\nrunroot = \"" + dir + "/run\"\ngraphroot = \"" + dir + "/graph\"\n"
	writeFile(t, filepath.Join(dir, "storage.conf"), storage)
	img := image.New(t, image.Options{Seed: 60, Layers: []int64{100_000}})

	blocks := shellBlock.FindAllStringSubmatch(readFile(t, "../../docs/quick-start.md"), -1)
	script := readFile(t, "testdata/quickstart.sh")
	for _, block := range blocks[1:] { // the first one installs ferry
		script += block[1]
	}
	root, ship := daemon.FreeAddress(t), daemon.FreeAddress(t)
	for _, change := range [][2]string{
		{"--data-dir /var/lib/ferry --listen :5000 \\\n    --tls", "--data-dir root --listen " + root + " --tls"},
		{"--data-dir /var/lib/ferry --listen :5000 --external", "--data-dir ship --listen " + ship + " --external"},
		{"root.crt", cert},
		{"root.key", key},
		{"root.example:5000", root},
		{"ship1.example:5000", ship},
		{"docker://docker.io/library/alpine:3.22", "oci:" + img.Dir + ":" + img.Tag},
	} {
		if !strings.Contains(script, change[0]) {
			t.Errorf("the page has no %q", change[0])
		}
		script = strings.ReplaceAll(script, change[0], change[1])
	}
	writeFile(t, filepath.Join(dir, "script.sh"), script)

	cmd := exec.Command("bash", "script.sh")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(path, ":"), "HOME="+dir, "FERRY_CONFIG_DIR="+dir+"/config",
		"SSL_CERT_FILE="+cert, "REGISTRY_AUTH_FILE="+dir+"/auth.json", "CONTAINERS_STORAGE_CONF="+dir+"/storage.conf")
	out, err := instance.Output(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	if !strings.Contains(out, "ship1") {
		t.Errorf("the root does not show the ship:\n%s", out)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
