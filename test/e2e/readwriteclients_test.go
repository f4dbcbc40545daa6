//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/outbox"
	"ferry/internal/retry"
	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// A restartable is an instance that a test stops, and starts again at the same address.
type restartable struct {
	*instance.Instance
	options instance.Options
}

func startRestartable(t *testing.T, o instance.Options) *restartable {
	t.Helper()
	o.DataDir, o.Listen = filepath.Join(t.TempDir(), "data"), daemon.FreeAddress(t)
	return &restartable{instance.Start(t, o), o}
}

func (r *restartable) start(t *testing.T) {
	t.Helper()
	r.Instance = instance.Start(t, r.options)
}

// awaitAt waits until done returns true; s has the log.
func awaitAt(t *testing.T, s *restartable, condition string, done func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	for !done(ctx) {
		if err := retry.Sleep(ctx, 100*time.Millisecond, nil); err != nil {
			t.Fatalf("%v while waiting until %s\n%s", err, condition, s.Log())
		}
	}
}

// TestClientsPushWhileTheParentIsStopped pushes, deletes, and makes a conflict with real clients at a
// connected registry in mode ReadWrite, each time while its parent is stopped.
func TestClientsPushWhileTheParentIsStopped(t *testing.T) {
	root := startRestartable(t, instance.Options{})
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"apps/*"}, "--mode",
		"ReadWrite")
	ship := startRestartable(t, connection.Options(instance.Options{}))
	first := image.New(t, image.Options{Seed: 60, Layers: []int64{1000}})
	push(t, root.Instance, "apps/first", first)
	awaitImage(t, ship.Instance, "apps/first", first)

	root.Stop(t)
	img := image.New(t, image.Options{Seed: 61, Layers: []int64{2 << 20, 300_000}})
	login := ship.AsAdmin(t)
	pushers := map[string]client{
		"skopeo": newSkopeo(t, login), "podman": newPodman(t, login), "crane": newCrane(t, login),
	}
	pushed := map[string]digest.Digest{}
	for name, c := range pushers {
		if err := c.login(); err != nil {
			t.Fatalf("%s: login: %v", name, err)
		}
		d, err := c.push(img, login.Host+"/apps/"+name+":v1")
		if err != nil {
			t.Fatalf("%s: push: %v", name, err)
		}
		pushed[name] = d
	}
	root.start(t)
	for name, d := range pushed {
		awaitDigest(t, ship, root.AsAdmin(t), "apps/"+name, "v1", d)
		if got, err := root.AsAdmin(t).Pull(t.Context(), "apps/"+name, "v1"); err != nil || got != d {
			t.Errorf("%s: the root serves %s, %v; want %s", name, got, err, d)
		}
	}
	testDeletions(t, root, ship, pushers)
	testConflict(t, root, ship, pushers["skopeo"], img)
}

func awaitDigest(t *testing.T, ship *restartable, l instance.Login, repository, tag string, d digest.Digest) {
	t.Helper()
	awaitAt(t, ship, fmt.Sprintf("%s serves %s:%s", l.Host, repository, tag), func(ctx context.Context) bool {
		got, err := l.Digest(ctx, repository, tag)
		return err == nil && got == d
	})
}

// testDeletions deletes what crane and skopeo have pushed.
func testDeletions(t *testing.T, root, ship *restartable, pushers map[string]client) {
	root.Stop(t)
	c := pushers["crane"].(*crane)
	if _, err := c.run("delete", ship.Host+"/apps/crane:v1"); err != nil {
		t.Fatalf("crane: delete: %v", err)
	}
	s := pushers["skopeo"].(*skopeo)
	if _, err := s.run("delete", "--authfile", s.auth, "--tls-verify=false",
		"docker://"+ship.Host+"/apps/skopeo:v1"); err != nil {
		t.Fatalf("skopeo: delete: %v", err)
	}
	root.start(t)
	for _, name := range []string{"crane", "skopeo"} {
		awaitAt(t, ship, "the root has deleted "+name+"'s image", func(ctx context.Context) bool {
			_, err := root.AsAdmin(t).Digest(ctx, "apps/"+name, "v1")
			return isStatus(err, http.StatusNotFound, "")
		})
	}
	if _, err := root.AsAdmin(t).Pull(t.Context(), "apps/podman", "v1"); err != nil {
		t.Errorf("the root lost an image that nobody deleted: %v", err)
	}
}

// testConflict changes a tag at both, and resolves the conflict at the site.
func testConflict(t *testing.T, root, ship *restartable, c client, theirs *image.Image) {
	root.Stop(t)
	if _, err := c.push(theirs, ship.Host+"/apps/first:v1"); err != nil {
		t.Fatalf("push: %v", err)
	}
	ship.Stop(t)
	root.start(t)
	ours := image.New(t, image.Options{Seed: 62, Layers: []int64{2000}})
	push(t, root.Instance, "apps/first", ours)
	ship.start(t)
	kept := outbox.ConflictTag("v1", "ship1", theirs.Digest)
	awaitDigest(t, ship, root.AsAdmin(t), "apps/first", kept, theirs.Digest)
	awaitImage(t, ship.Instance, "apps/first", ours)
	if _, err := root.AsAdmin(t).Pull(t.Context(), "apps/first", kept); err != nil {
		t.Errorf("pull of the image that lost the conflict: %v", err)
	}
	if d, err := root.AsAdmin(t).Digest(t.Context(), "apps/first", "v1"); err != nil || d != ours.Digest {
		t.Errorf("the root serves %s, %v; want its own %s", d, err, ours.Digest)
	}
	sh, operator := ship.Admin(t, "ship1"), root.Admin(t, "root")
	shows := func() bool {
		return strings.Contains(sh.Run(t, "sync", "status"), "ferry sync resolve --image apps/first:v1")
	}
	awaitAt(t, ship, "the site shows the conflict", func(context.Context) bool { return shows() })
	awaitAt(t, ship, "the root shows the conflict", func(context.Context) bool {
		return strings.Contains(operator.Run(t, "connected-registry", "show", "--name", "ship1"), kept)
	})
	sh.Run(t, "sync", "resolve", "--image", "apps/first:v1")
	if shows() {
		t.Error("the site shows a conflict that was resolved")
	}
	awaitAt(t, ship, "the root shows no conflict any more", func(context.Context) bool {
		return !strings.Contains(operator.Run(t, "connected-registry", "show", "--name", "ship1"), kept)
	})
}
