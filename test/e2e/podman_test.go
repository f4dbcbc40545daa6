//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

// podman uses a store of its own, with the driver that works on every file system.
type podman struct {
	command
	instance.Login
	dir, auth string
}

func newPodman(t *testing.T, l instance.Login) client {
	dir := shortDir(t) // podman requires a short path for its runroot
	return &podman{command{path: program(t, "podman"), args: []string{
		"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
		"--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs",
	}}, l, dir, filepath.Join(dir, "auth.json")}
}

func (c *podman) login() error {
	_, err := c.feed(c.Password, "login", "--authfile", c.auth, "--tls-verify=false", "--username", c.User,
		"--password-stdin", c.Host)
	return err
}

// push copies the image into podman's store first. The store compresses the layers again,
// so the pushed image has another digest.
func (c *podman) push(m *image.Image, ref string) (digest.Digest, error) {
	layout := filepath.Join(c.dir, "layout") // podman derives an image name from the path, so it must not have capitals
	if err := os.Symlink(m.Dir, layout); err != nil {
		return "", err
	}
	id, err := c.run("pull", "--quiet", "oci:"+layout+":"+m.Tag)
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, "digest")
	if _, err := c.run("push", "--quiet", "--authfile", c.auth, "--tls-verify=false", "--digestfile", file,
		strings.TrimSpace(id), "docker://"+ref); err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	return digest.Digest(strings.TrimSpace(string(text))), err
}

func (c *podman) pull(ref string) (digest.Digest, error) {
	if _, err := c.run("rmi", "--all", "--force"); err != nil {
		return "", err
	}
	if _, err := c.run("pull", "--quiet", "--authfile", c.auth, "--tls-verify=false", ref); err != nil {
		return "", err
	}
	out, err := c.run("image", "inspect", "--format", "{{.Digest}}", ref)
	return digest.Digest(strings.TrimSpace(out)), err
}
