//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

type crane struct {
	command
	instance.Login
	dir string
}

func newCrane(t *testing.T, l instance.Login) client {
	dir := t.TempDir()
	return &crane{command{path: program(t, "crane"), env: []string{"DOCKER_CONFIG=" + dir},
		args: []string{"--insecure"}}, l, dir}
}

// login only saves the password. crane finds out later whether it is right.
func (c *crane) login() error {
	_, err := c.feed(c.Password, "auth", "login", "--username", c.User, "--password-stdin", c.Host)
	return err
}

func (c *crane) push(m *image.Image, ref string) (digest.Digest, error) {
	_, err := c.run("push", m.Dir, ref)
	return m.Digest, err
}

func (c *crane) pull(ref string) (digest.Digest, error) {
	out := filepath.Join(c.dir, "pulled")
	if _, err := c.run("pull", "--format=oci", ref, out); err != nil {
		return "", err
	}
	return layoutDigest(out)
}
