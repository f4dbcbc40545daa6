//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

type regctl struct {
	command
	instance.Login
	dir string
}

func newRegctl(t *testing.T, l instance.Login) client {
	dir := t.TempDir()
	return &regctl{command{path: program(t, "regctl"), env: []string{
		"REGCTL_CONFIG=" + filepath.Join(dir, "config.json"), "DOCKER_CONFIG=" + dir,
	}}, l, dir}
}

func (c *regctl) login() error {
	if _, err := c.run("registry", "set", "--skip-check", "--tls", "disabled", c.Host); err != nil {
		return err
	}
	_, err := c.feed(c.Password, "registry", "login", "--user", c.User, "--pass-stdin", c.Host)
	return err
}

func (c *regctl) push(m *image.Image, ref string) (digest.Digest, error) {
	_, err := c.run("image", "copy", "ocidir://"+m.Dir+":"+m.Tag, ref)
	return m.Digest, err
}

func (c *regctl) pull(ref string) (digest.Digest, error) {
	out := filepath.Join(c.dir, "pulled")
	if _, err := c.run("image", "copy", ref, "ocidir://"+out+":x"); err != nil {
		return "", err
	}
	return layoutDigest(out)
}
