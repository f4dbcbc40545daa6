//go:build cluster

package cluster_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb/dbtest"
	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// settleTimeout is how long connected registries and collections may take after the last fault.
const settleTimeout = 2 * time.Minute

// Processes are killed FERRY_KILLS times, while FERRY_SEED decides when, and PostgreSQL fails in each of
// the ways of [breakDatabase] a tenth as often. Garbage is collected each second.
func TestAcknowledgedContentSurvivesKills(t *testing.T) {
	kills, seed := number(t, "FERRY_KILLS", 10), uint64(number(t, "FERRY_SEED", 1))
	c := cluster.Start(t, cluster.Options{Program: quick(t)})
	admin := c.Root().Admin(t, "root")
	var images []*image.Image
	for i := range 12 {
		layers := []int64{1000, int64(i) * 200_000}
		images = append(images, image.New(t, image.Options{Seed: uint64(100 + i), Layers: layers}))
	}
	var children []*instance.Instance
	for _, name := range []string{"ship1", "ship2"} {
		connection := instance.Connect(t, admin, name, c.Proxy.Host, []string{"load/*"})
		children = append(children, instance.Start(t, connection.Options(instance.Options{})))
	}
	var pollers []*cluster.Poller
	for _, name := range []string{"poller1", "poller2"} {
		connection := instance.Connect(t, admin, name, c.Proxy.Host, []string{"load/*"})
		poller, err := cluster.NewPoller(connection.ConnectionString)
		if err != nil {
			t.Fatal(err)
		}
		pollers = append(pollers, poller)
	}

	load := cluster.NewLoad(c.Root().AsAdmin(t), 4, images)
	stop, end := context.WithCancel(t.Context())
	defer end()
	all, ctx := errgroup.WithContext(t.Context())
	all.Go(func() error { return load.Run(ctx, stop, seed) })
	for _, poller := range pollers {
		all.Go(func() error { return load.Poll(ctx, stop, poller) })
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range kills {
		select {
		case <-ctx.Done():
			t.Fatalf("after %d kills and %s: %v", i, load, all.Wait())
		case <-time.After(time.Duration(500+rng.IntN(1500)) * time.Millisecond):
		}
		p := c.Processes[rng.IntN(len(c.Processes))]
		p.Kill(t)
		breakDatabase(t, c, load, i%10, rng)
		if i%5 == 2 {
			c.Store.SetFaults(cluster.Faults{Refuse: 0.1, Cut: 0.05}, rng.Uint64())
		}
		if i%5 == 4 {
			c.Store.SetFaults(cluster.Faults{}, 0)
		}
		p.Start(t)
	}
	c.Store.SetFaults(cluster.Faults{}, 0)
	end()
	if err := all.Wait(); err != nil {
		t.Fatalf("after %d kills and %s: %v", kills, load, err)
	}
	t.Logf("%d kills, %s, %v, %d requests to the store failed", kills, load, pollers, c.Store.Failed())

	settled, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	for _, p := range c.Processes {
		l := c.Root().AsAdmin(t)
		l.Host = p.Host
		hasContent(settled, t, l, load.Content())
	}
	for _, child := range children {
		hasContent(settled, t, child.AsAdmin(t), load.Content())
	}
	rowsMatchObjects(settled, t, c)
}

// breakDatabase makes PostgreSQL fail in one of several ways, or in none.
func breakDatabase(t *testing.T, c *cluster.Cluster, load *cluster.Load, way int, rng *rand.Rand) {
	t.Helper()
	away := func(fail func()) {
		ended := load.Outage()
		fail()
		c.AwaitReady(t)
		ended()
	}
	switch way {
	case 1:
		away(func() { c.Database.KillBackend(t) })
	case 3:
		c.Database.TerminateAll(t)
	case 5:
		away(func() { c.Database.Kill(t); c.Database.Start(t) })
	case 7:
		away(func() {
			c.Database.Stall(t)
			time.Sleep(time.Duration(1000+rng.IntN(3000)) * time.Millisecond)
			c.Database.Resume(t)
		})
	case 9:
		end := dbtest.TakeConnections(t, c.Database.URL("postgres"))
		time.Sleep(time.Second)
		end()
	}
}

// rowsMatchObjects waits until each row has its object, and each object its row.
func rowsMatchObjects(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		differences, err := c.Differences(ctx)
		if err == nil && len(differences) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v, differences:\n%s", err, strings.Join(differences, "\n"))
		case <-tick.C:
		}
	}
}

// hasContent waits until a registry has the tags of content and no others, and pulls them.
func hasContent(ctx context.Context, t *testing.T, l instance.Login, content map[string]map[string]digest.Digest) {
	t.Helper()
	for repo, tags := range content {
		for tag, d := range tags {
			if err := l.Await(ctx, repo, tag, d); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Pull(ctx, repo, tag); err != nil {
				t.Fatal(err)
			}
		}
		for _, tag := range []string{"t0", "t1", "t2", "t3"} {
			if _, ok := tags[tag]; ok {
				continue
			}
			if err := l.AwaitAbsence(ctx, repo, tag); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// quick builds the program that collects garbage each second.
func quick(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quick")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", path, "./quick").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// number returns the value of a variable of the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
