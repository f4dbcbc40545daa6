//go:build cluster

package cluster_test

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// Each process is stopped and started again, one after the other, as an update does it. If FERRY_OLD names a
// program of an older version, it is an update from that.
func TestClientsRetryAtMostOnceInARollingRestart(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Program: os.Getenv("FERRY_OLD")})
	admin := c.Root().Admin(t, "root")
	poller, err := cluster.NewPoller(
		instance.Connect(t, admin, "poller1", c.Proxy.Host, []string{"load/*"}).ConnectionString)
	if err != nil {
		t.Fatal(err)
	}
	var images []*image.Image
	for i := range 6 {
		images = append(images, image.New(t, image.Options{Seed: uint64(700 + i), Layers: []int64{1000, 500_000}}))
	}
	load := cluster.NewLoad(c.Root().AsAdmin(t), 4, images)
	stop, end := context.WithCancel(t.Context())
	defer end()
	all, ctx := errgroup.WithContext(t.Context())
	all.Go(func() error { return load.Run(ctx, stop, 1) })
	all.Go(func() error { return load.Poll(ctx, stop, poller) })
	for range 2 {
		for _, p := range c.Processes {
			load.AwaitRequests(ctx, 50)
			p.Stop(t)
			load.AwaitRequests(ctx, 50)
			p.Update(t)
			c.AwaitReady(t)
		}
	}
	end()
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %s", load, poller)
	if n := load.MostFailures(); n > 1 {
		t.Errorf("a request was tried %d times in vain", n)
	}
}
