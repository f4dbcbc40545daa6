//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// A client is a program that pushes and pulls with one login.
type client interface {
	// login logs in. It returns an error if the registry refuses the login; some clients
	// find that out only later.
	login() error
	// push pushes the image to a reference (host/repository:tag) and returns
	// the digest of the manifest that it pushed.
	push(m *image.Image, ref string) (digest.Digest, error)
	// pull pulls a reference into a store that has none of its content.
	pull(ref string) (digest.Digest, error)
}

// clients are the clients that must work with the registry, by name.
var clients = map[string]func(t *testing.T, l instance.Login) client{
	"skopeo":     newSkopeo,
	"podman":     newPodman,
	"containerd": newContainerd,
	"crane":      newCrane,
	"regctl":     newRegctl,
	"oras":       newOras,
}

func TestClientsPushAndPullEqualDigests(t *testing.T) {
	l := pushToken(t, startRoot(t), "apps/*")
	img := image.New(t, image.Options{Seed: 1, Layers: []int64{3 << 20, 1000, 0}})
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			c := connect(t, l)
			if err := c.login(); err != nil {
				t.Fatalf("login: %v", err)
			}
			ref := l.Host + "/apps/" + name + ":v1"
			pushed, err := c.push(img, ref)
			if err != nil {
				t.Fatalf("push: %v", err)
			}
			served, err := l.Digest(t.Context(), "apps/"+name, "v1")
			if err != nil {
				t.Fatal(err)
			}
			if served != pushed {
				t.Errorf("the registry serves %s, but %s pushed %s", served, name, pushed)
			}
			pulled, err := c.pull(ref)
			if err != nil {
				t.Fatalf("pull: %v", err)
			}
			if pulled != pushed {
				t.Errorf("pulled %s, pushed %s", pulled, pushed)
			}
		})
	}
}

func TestClientsAreRefusedWithTheWrongPassword(t *testing.T) {
	right := pushToken(t, startRoot(t), "apps/*")
	img := image.New(t, image.Options{Seed: 2, Layers: []int64{1000}})
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			wrong := right
			wrong.Password = "x" + right.Password[1:]
			c := connect(t, wrong)
			err := c.login()
			if err == nil {
				_, err = c.push(img, right.Host+"/apps/"+name+":v1")
			}
			if err == nil {
				t.Fatal("a push with the wrong password succeeded")
			}
			if !says(err, "401", "unauthorized", "invalid username/password", "authentication required") {
				t.Errorf("the error does not say that the login was refused: %v", err)
			}
			if d, err := right.Digest(t.Context(), "apps/"+name, "v1"); err == nil {
				t.Errorf("the registry has %s", d)
			}
		})
	}
}

func TestClientsMayNotPushBeyondTheirScope(t *testing.T) {
	l := pushToken(t, startRoot(t), "apps/*")
	img := image.New(t, image.Options{Seed: 3, Layers: []int64{1000}})
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			c := connect(t, l)
			if err := c.login(); err != nil {
				t.Fatalf("login: %v", err)
			}
			_, err := c.push(img, l.Host+"/others/"+name+":v1")
			if err == nil {
				t.Fatal("a push beyond the token's scope succeeded")
			}
			if !says(err, "denied", "401", "403", "unauthorized", "forbidden", "insufficient") {
				t.Errorf("the error does not say that the push is not allowed: %v", err)
			}
		})
	}
}

// says reports whether err contains one of the words, in upper or lower case.
func says(err error, words ...string) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// program returns the path of a client's program; see [daemon.Program].
func program(t *testing.T, name string) string {
	t.Helper()
	return daemon.Program(t, name, "make tools packages")
}

// shortDir is t.TempDir for programs that do not support long paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A command is a client's program, with the environment and arguments of all its runs.
type command struct {
	path string
	env  []string
	args []string // come before those of each run
}

func (c command) run(args ...string) (string, error) {
	return c.feed("", args...)
}

// feed runs the program with text as its standard input.
func (c command) feed(text string, args ...string) (string, error) {
	cmd := exec.Command(c.path, append(c.args[:len(c.args):len(c.args)], args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(text)
	return instance.Output(cmd)
}

// layoutDigest returns the digest of the one image in an OCI layout.
func layoutDigest(dir string) (digest.Digest, error) {
	text, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
	if err != nil {
		return "", err
	}
	var index v1.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return "", err
	}
	if len(index.Manifests) != 1 {
		return "", fmt.Errorf("%s has %d manifests, want 1", dir, len(index.Manifests))
	}
	return index.Manifests[0].Digest, nil
}

// The administrator pushes and pulls with the password that the first start printed.
func TestOperatorLogsInWithAnyClient(t *testing.T) {
	admin := startRoot(t).AsAdmin(t)
	img := image.New(t, image.Options{Seed: 9, Layers: []int64{1000}})
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			c := connect(t, admin)
			if err := c.login(); err != nil {
				t.Fatalf("login: %v", err)
			}
			ref := admin.Host + "/operators/" + name + ":v1"
			pushed, err := c.push(img, ref)
			if err != nil {
				t.Fatalf("push: %v", err)
			}
			if pulled, err := c.pull(ref); err != nil || pulled != pushed {
				t.Errorf("pulled %s, %v; pushed %s", pulled, err, pushed)
			}
		})
	}
}
