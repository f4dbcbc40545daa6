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

// TestPushAtAKilledRegistryReachesTheRoot pushes with a client at a connected registry in mode ReadWrite, whose link
// is cut again and again, and which is killed in the middle.
func TestPushAtAKilledRegistryReachesTheRoot(t *testing.T) {
	root := startRoot(t)
	wan := link.Start(t, root.Host, "-up", "20mbit", "-rtt", "40ms", "-cut-every", "1s", "-cut-for", "300ms")
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", wan.Host, []string{"apps/*"},
		"--mode", "ReadWrite")
	options := connection.Options(instance.Options{DataDir: t.TempDir() + "/data"})
	ship := instance.Start(t, options)
	first := image.New(t, image.Options{Seed: 50, Layers: []int64{1000}})
	push(t, root, "apps/a", first)
	awaitImage(t, ship, "apps/a", first)

	before := wan.Stats(t).Up
	img := image.New(t, image.Options{Seed: 51, Layers: []int64{8 << 20, 300_000}})
	push(t, ship, "apps/b", img)
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for wan.Stats(t).Up-before < 3<<20 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nothing is sent up")
		}
	}
	ship.Kill(t)
	ship = instance.Start(t, options)
	if err := root.AsAdmin(t).Await(ctx, "apps/b", img.Tag, img.Digest); err != nil {
		t.Fatalf("%v\nthe connected registry's log:\n%s", err, ship.Log())
	}
	if _, err := root.AsAdmin(t).Pull(ctx, "apps/b", img.Tag); err != nil {
		t.Fatal(err)
	}
	stats := wan.Stats(t)
	sent := stats.Up - before
	t.Logf("image of %d bytes: %d bytes up, %d cuts", img.Size, sent, stats.Cuts)
	if stats.Cuts == 0 {
		t.Error("the link was never cut")
	}
	const onLink = 20e6 / 8 * 0.02 // bytes, which a cut loses
	if limit := img.Size + max(img.Size/20, stats.Cuts*onLink); sent > limit {
		t.Errorf("%d bytes were sent, want at most %d", sent, limit)
	}
}
