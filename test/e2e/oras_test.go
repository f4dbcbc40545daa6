//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

type oras struct {
	command
	instance.Login
	dir, auth string
}

func newOras(t *testing.T, l instance.Login) client {
	dir := t.TempDir()
	return &oras{command{path: program(t, "oras")}, l, dir, filepath.Join(dir, "auth.json")}
}

func (c *oras) login() error {
	_, err := c.feed(c.Password, "login", "--plain-http", "--registry-config", c.auth, "--username", c.User,
		"--password-stdin", c.Host)
	return err
}

func (c *oras) push(m *image.Image, ref string) (digest.Digest, error) {
	_, err := c.run("cp", "--no-tty", "--from-oci-layout", m.Dir+":"+m.Tag, "--to-plain-http", "--to-registry-config",
		c.auth, ref)
	return m.Digest, err
}

func (c *oras) pull(ref string) (digest.Digest, error) {
	out := filepath.Join(c.dir, "pulled")
	if _, err := c.run("cp", "--no-tty", "--from-plain-http", "--from-registry-config", c.auth, ref, "--to-oci-layout",
		out+":x"); err != nil {
		return "", err
	}
	return layoutDigest(out)
}

func TestOrasFindsAttachedArtifacts(t *testing.T) {
	l := pushToken(t, startRoot(t), "apps/*")
	c := newOras(t, l).(*oras)
	if err := c.login(); err != nil {
		t.Fatal(err)
	}
	img := image.New(t, image.Options{Seed: 4, Layers: []int64{1000}})
	ref := l.Host + "/apps/signed:v1"
	if _, err := c.push(img, ref); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "sbom.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.run("attach", "--plain-http", "--registry-config", c.auth, "--disable-path-validation",
		"--artifact-type", "application/vnd.example.sbom", ref,
		filepath.Join(c.dir, "sbom.json")+":application/json"); err != nil {
		t.Fatal(err)
	}
	out, err := c.run("discover", "--plain-http", "--registry-config", c.auth, "--format", "json", ref)
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Referrers []struct{ ArtifactType string }
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(found.Referrers) != 1 || found.Referrers[0].ArtifactType != "application/vnd.example.sbom" {
		t.Errorf("oras discovered %s", out)
	}
}
