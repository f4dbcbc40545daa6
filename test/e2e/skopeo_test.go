//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

type skopeo struct {
	command
	instance.Login
	dir, auth string
}

func newSkopeo(t *testing.T, l instance.Login) client {
	dir := t.TempDir()
	return &skopeo{command{path: program(t, "skopeo"), args: []string{"--insecure-policy"}}, l, dir,
		filepath.Join(dir, "auth.json")}
}

func (c *skopeo) login() error {
	_, err := c.feed(c.Password, "login", "--authfile", c.auth, "--tls-verify=false", "--username", c.User,
		"--password-stdin", c.Host)
	return err
}

func (c *skopeo) push(m *image.Image, ref string) (digest.Digest, error) {
	_, err := c.run("copy", "--quiet", "--preserve-digests", "--authfile", c.auth, "--dest-tls-verify=false",
		"oci:"+m.Dir+":"+m.Tag, "docker://"+ref)
	return m.Digest, err
}

func (c *skopeo) pull(ref string) (digest.Digest, error) {
	out := filepath.Join(c.dir, "pulled")
	if _, err := c.run("copy", "--quiet", "--preserve-digests", "--authfile", c.auth, "--src-tls-verify=false",
		"docker://"+ref, "oci:"+out+":x"); err != nil {
		return "", err
	}
	return layoutDigest(out)
}
