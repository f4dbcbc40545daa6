//go:build e2e

package e2e

import (
	"bytes"
	"net/http"
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

func TestImageOfFerryRunsAndIsPushed(t *testing.T) {
	dir := image.Ferry(t, instance.Binary(t), "v1")
	t.Run("it serves from a read-only root", func(t *testing.T) { runImage(t, dir) })
	t.Run("it is pushed with its referrers", func(t *testing.T) { pushImage(t, dir) })
}

// runImage runs the image without root's rights, and without a file system that it may write
// to, except its volume.
func runImage(t *testing.T, dir string) {
	if os.Geteuid() != 0 {
		t.Skip("podman needs root here")
	}
	c := newPodman(t, instance.Login{}).(*podman)
	id, err := c.run("pull", "--quiet", "oci:"+dir+":v1")
	if err != nil {
		t.Fatal(err)
	}
	// crun refuses some machines' cgroups, and some may not raise limits.
	name := filepath.Base(c.dir)
	args := append(c.args, "--runtime", program(t, "runc"), "run", "--rm", "--name", name, "--read-only",
		"--read-only-tmpfs=false", "--cap-drop", "all", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
		"--network", "host", "--env", "FERRY_LISTEN=127.0.0.1:0", strings.TrimSpace(id))
	t.Cleanup(func() {
		if _, err := c.run("rm", "--force", "--ignore", name); err != nil {
			t.Error(err)
		}
	})
	serves := regexp.MustCompile(`msg=serving url=(http://\S+)`)
	url := daemon.Start(t, exec.Command(c.path, args...), func(line string) string {
		if m := serves.FindStringSubmatch(line); m != nil {
			return m[1]
		}
		return ""
	})
	resp, err := http.Get(url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("GET /v2/: %s", resp.Status)
	}
}

// pushImage pushes the image to an instance, where another client finds the referrers.
func pushImage(t *testing.T, dir string) {
	l := pushToken(t, startRoot(t), "tools/*")
	cmd := exec.Command(instance.Binary(t), "push-layout", dir, "http://"+l.Host+"/tools/ferry:1.0", "--query",
		"length(referrers)", "-o", "tsv")
	cmd.Env = append(cmd.Environ(), "FERRY_CONFIG_DIR="+t.TempDir(), "FERRY_USERNAME="+l.User,
		"FERRY_PASSWORD="+l.Password)
	out, err := cmd.Output()
	if err != nil || string(bytes.TrimSpace(out)) != "4" {
		t.Fatalf("push-layout: %q, %v", out, err)
	}
	c := newOras(t, l).(*oras)
	if err := c.login(); err != nil {
		t.Fatal(err)
	}
	shown, err := c.run("discover", "--plain-http", "--registry-config", c.auth, "--format", "json",
		l.Host+"/tools/ferry:1.0")
	if err != nil || !strings.Contains(shown, "application/vnd.in-toto+json") {
		t.Errorf("oras discover: %s, %v", shown, err)
	}
}
