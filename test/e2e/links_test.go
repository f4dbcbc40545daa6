//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// startLinkedRoot starts a root that answers with links to its object store.
func startLinkedRoot(t *testing.T) *cluster.Cluster {
	t.Helper()
	if !*clustered {
		t.Skip("only a root with an object store has links")
	}
	return cluster.Start(t, cluster.Options{Args: []string{"--blob-redirect", "127.0.0.0/8", "--log-level", "debug"}})
}

// checkNoLinkIsLogged fails the test if a log has a part of a link.
func checkNoLinkIsLogged(t *testing.T, logs ...string) {
	t.Helper()
	for _, log := range logs {
		if i := strings.Index(log, "X-Amz-"); i >= 0 {
			t.Errorf("a link is in the log: %.400s", log[max(0, i-200):])
		}
	}
}

func TestLinksAreFollowedByClients(t *testing.T) {
	c := startLinkedRoot(t)
	l := pushToken(t, c.Root(), "apps/*")
	img := image.New(t, image.Options{Seed: 40, Layers: []int64{3 << 20, 1000}})
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			program := connect(t, l)
			if err := program.login(); err != nil {
				t.Fatalf("login: %v", err)
			}
			ref := l.Host + "/apps/" + name + ":v1"
			pushed, err := program.push(img, ref)
			if err != nil {
				t.Fatalf("push: %v", err)
			}
			before := c.Store.Links()
			pulled, err := program.pull(ref)
			if err != nil || pulled != pushed {
				t.Fatalf("pulled %s, %v; pushed %s", pulled, err, pushed)
			}
			after := c.Store.Links()
			if after.Requests == before.Requests || after.Bytes-before.Bytes < 3<<20 {
				t.Errorf("links before %+v, after %+v: the layers did not come from the store", before, after)
			}
		})
	}
	checkNoLinkIsLogged(t, c.Processes[0].Log(), c.Processes[1].Log())
}

// TestLinksAreContinuedAndRenewedBySites has a store that cuts links in the middle, and lets them
// expire, within each layer. Some clients send their login to another port of the same host, as here;
// sites do not.
func TestLinksAreContinuedAndRenewedBySites(t *testing.T) {
	c := startLinkedRoot(t)
	root := c.Root()
	img := image.New(t, image.Options{Seed: 41, Layers: []int64{12 << 20, 5 << 20, 1000}})
	push(t, root, "apps/a", img)
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"apps/a"})
	c.Store.SetFaults(cluster.Faults{Cut: 0.3, Expire: 0.3}, 1)
	options := instance.Options{DataDir: filepath.Join(t.TempDir(), "data"), Args: []string{"--log-level", "debug"}}
	ship := instance.Start(t, connection.Options(options))
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	if err := ship.AsAdmin(t).Await(ctx, "apps/a", img.Tag, img.Digest); err != nil {
		t.Fatal(err)
	}
	c.Store.SetFaults(cluster.Faults{}, 0)
	if _, err := ship.AsAdmin(t).Pull(ctx, "apps/a", img.Tag); err != nil {
		t.Error(err)
	}
	links := c.Store.Links()
	t.Logf("image of %d bytes: %+v", img.Size, links)
	if links.Cut == 0 || links.Expired == 0 || links.WithLogin > 0 {
		t.Errorf("links: %+v; want cuts, expiries and no login", links)
	}
	const lost = 128 << 10 // in a connection that is cut, at most
	if limit := img.Size + int64(links.Cut)*lost; links.Bytes > limit {
		t.Errorf("the store sent %d bytes, want at most %d", links.Bytes, limit)
	}
	checkNoLinkIsLogged(t, ship.Log(), c.Processes[0].Log(), c.Processes[1].Log())
}
