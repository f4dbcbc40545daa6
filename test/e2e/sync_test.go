//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"ferry/test/image"
	"ferry/test/instance"
	"ferry/test/link"
)

// syncTimeout is how long the sync of an image may take.
const syncTimeout = 2 * time.Minute

// awaitImage waits until s serves the image.
func awaitImage(t *testing.T, s *instance.Instance, repo string, m *image.Image) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	if err := s.AsAdmin(t).Await(ctx, repo, m.Tag, m.Digest); err != nil {
		t.Fatalf("%v\nthe connected registry's log:\n%s", err, s.Log())
	}
	if _, err := s.AsAdmin(t).Pull(ctx, repo, m.Tag); err != nil {
		t.Fatalf("pull from the connected registry: %v", err)
	}
}

// push pushes an image as the administrator.
func push(t *testing.T, s *instance.Instance, repo string, m *image.Image) {
	t.Helper()
	if err := s.AsAdmin(t).Push(t.Context(), repo, m); err != nil {
		t.Fatalf("push: %v", err)
	}
}

func TestImageIsSyncedOverALinkWithCuts(t *testing.T) {
	root := startRoot(t)
	img := image.New(t, image.Options{Seed: 20, Layers: []int64{6 << 20, 2 << 20, 1000}})
	push(t, root, "apps/a", img)
	wan := link.Start(t, root.Host, "-down", "20mbit", "-rtt", "40ms", "-cut-every", "1s", "-cut-for", "300ms")
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", wan.Host, []string{"apps/a"})
	ship := instance.Start(t, connection.Options(instance.Options{}))
	awaitImage(t, ship, "apps/a", img)

	stats := wan.Stats(t)
	t.Logf("image of %d bytes: %d bytes down, %d up, %d cuts, %d ms", img.Size, stats.Down, stats.Up, stats.Cuts,
		stats.ElapsedMS)
	if stats.Cuts == 0 {
		t.Error("the link was never cut")
	}
	if limit := img.Size + img.Size/10; stats.Down > limit {
		t.Errorf("%d bytes came over the link, want at most %d", stats.Down, limit)
	}
}

func TestKilledTransferLosesAtMostOneMebibyte(t *testing.T) {
	root := startRoot(t)
	img := image.New(t, image.Options{Seed: 21, Layers: []int64{killedLayer}})
	push(t, root, "apps/a", img)
	wan := link.Start(t, root.Host, "-down", "30mbit", "-rtt", "20ms")
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", wan.Host, []string{"apps/a"})
	options := connection.Options(instance.Options{DataDir: t.TempDir() + "/data"})
	awaitImageUnderKills(t, 4, instance.Start(t, options), options, wan, "apps/a", img)
}

// killedLayer is the size of the layer that is transferred under kills, in bytes.
const killedLayer = 12 << 20

// awaitImageUnderKills kills the site s so many times while img comes over the link, and
// starts it again with options. It returns once s serves the image. It fails the test if
// more bytes are transferred again than kills may cost.
func awaitImageUnderKills(t *testing.T, kills int, s *instance.Instance, options instance.Options, wan *link.Link,
	repository string,
	img *image.Image) {
	t.Helper()
	const (
		lost     = 1 << 20   // that a kill may lose
		inFlight = 512 << 10 // in the link and the sockets when it happens
		protocol = 128 << 10
	)
	for i := range kills {
		awaitBytes(t, wan, int64(i+1)*killedLayer/int64(kills+2))
		s.Kill(t)
		s = instance.Start(t, options)
	}
	if _, err := s.AsAdmin(t).Digest(t.Context(), repository, img.Tag); err == nil {
		t.Fatal("the image was complete before the last kill: the test proves nothing")
	}
	awaitImage(t, s, repository, img)
	stats := wan.Stats(t)
	t.Logf("image of %d bytes: %d bytes down, %d up, %d ms", img.Size, stats.Down, stats.Up, stats.ElapsedMS)
	if limit := img.Size + int64(kills)*(lost+inFlight) + protocol; stats.Down > limit {
		t.Errorf("%d bytes came over the link, want at most %d", stats.Down, limit)
	}
}

// awaitBytes returns once the link has carried n bytes down.
func awaitBytes(t *testing.T, l *link.Link, n int64) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(syncTimeout)
	for l.Stats(t).Down < n {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the link carried %d bytes, want %d", l.Stats(t).Down, n)
		}
	}
}

func TestConnectedRegistryServesWithoutItsParent(t *testing.T) {
	root := startRoot(t)
	sh := root.Admin(t, "root")
	first := image.New(t, image.Options{Seed: 22, Layers: []int64{100_000}})
	second := image.New(t, image.Options{Seed: 23, Layers: []int64{100_000}})
	push(t, root, "apps/a", first)
	sh.Run(t, "scope-map", "create", "--name", "readers", "--repository", "apps/a", "content/read")
	connection := instance.Connect(t, sh, "ship1", root.Host, []string{"apps/*"})
	options := instance.Options{DataDir: t.TempDir() + "/data",
		Args: []string{"--connection-string-file", connection.File(t)}}
	ship := instance.Start(t, options)
	awaitImage(t, ship, "apps/a", first)

	push(t, root, "apps/a", second) // the same tag moves
	push(t, root, "apps/b", first)  // a new repository
	awaitImage(t, ship, "apps/a", second)
	awaitImage(t, ship, "apps/b", first)

	reader := instance.Token(t, sh, "reader", "readers")
	reader.Host = ship.Host
	sh.Run(t, "connected-registry", "update", "--name", "ship1", "--add-client-tokens", "reader")
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	if err := reader.Await(ctx, "apps/a", second.Tag, second.Digest); err != nil {
		t.Fatal(err)
	}

	root.Stop(t)
	ship.Stop(t)
	ship = instance.Start(t, options)
	reader.Host = ship.Host
	if d, err := reader.Pull(ctx, "apps/a", second.Tag); err != nil || d != second.Digest {
		t.Errorf("pull without the parent: %s, %v; want %s", d, err, second.Digest)
	}
	if _, err := reader.Pull(ctx, "apps/b", first.Tag); err == nil {
		t.Error("a client token pulled a repository outside its scope map")
	}
	if err := ship.AsAdmin(t).Push(ctx, "apps/a", first); !isStatus(err, 403, "DENIED") {
		t.Errorf("push to a ReadOnly connected registry: %v; want DENIED", err)
	}
}
