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

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// settleTimeout is how long connected registries and collections may take after the last fault.
const settleTimeout = 2 * time.Minute

// Processes are killed FERRY_KILLS times, and PostgreSQL a tenth as often, while FERRY_SEED decides
// when. Garbage is collected each second.
func TestAcknowledgedContentSurvivesKills(t *testing.T) {
	kills, seed := number(t, "FERRY_KILLS", 6), uint64(number(t, "FERRY_SEED", 1))
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

	load := cluster.NewLoad(c.Root().AsAdmin(t), 4, images)
	stop, end := context.WithCancel(t.Context())
	defer end()
	done := make(chan error, 1)
	go func() { done <- load.Run(t.Context(), stop, seed) }()
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range kills {
		select {
		case err := <-done:
			t.Fatalf("after %d kills and %s: %v", i, load, err)
		case <-time.After(time.Duration(500+rng.IntN(1500)) * time.Millisecond):
		}
		p := c.Processes[rng.IntN(len(c.Processes))]
		p.Kill(t)
		if i%10 == 5 {
			ended := load.Outage()
			c.Database.Kill(t)
			c.Database.Start(t)
			c.AwaitReady(t)
			ended()
		}
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
	if err := <-done; err != nil {
		t.Fatalf("after %d kills and %s: %v", kills, load, err)
	}
	t.Logf("%d kills, %s, %d requests to the store failed", kills, load, c.Store.Failed())

	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	for _, p := range c.Processes {
		l := c.Root().AsAdmin(t)
		l.Host = p.Host
		hasContent(ctx, t, l, load.Content())
	}
	for _, child := range children {
		hasContent(ctx, t, child.AsAdmin(t), load.Content())
	}
	rowsMatchObjects(ctx, t, c)
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
