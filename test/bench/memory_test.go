//go:build bench

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/image"
	"ferry/test/instance"
)

const caseTimeout = 10 * time.Minute

// memory measures the memory of a connected registry that syncs a layer of 2 GiB and serves
// pulls.
func memory(t *testing.T) []figure {
	const clients = 4
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	defer cancel()
	root := instance.Start(t, instance.Options{})
	admin := root.AsAdmin(t)
	small := image.New(t, image.Options{Seed: 3, Layers: []int64{16 << 20}})
	if err := admin.Push(ctx, "bench/small", small); err != nil {
		t.Fatal(err)
	}
	sh := root.Admin(t, "root")
	reader := pullToken(t, sh)
	connection := instance.Connect(t, sh, "ship1", root.Host, []string{"bench/small", "bench/large"}, "--client-tokens",
		reader.User)
	child := instance.Start(t, connection.Options(instance.Options{}))
	reader.Host = child.Host
	if err := reader.Await(ctx, "bench/small", small.Tag, small.Digest); err != nil {
		t.Fatal(err)
	}

	large := image.New(t, image.Options{Seed: 4, Layers: []int64{2 << 30}, Plain: true})
	if err := admin.Push(ctx, "bench/large", large); err != nil {
		t.Fatal(err)
	}
	blob := endpoint{child.Host, "/v2/bench/small/blobs/" + small.Manifest.Layers[0].Digest.String(),
		bearerFor(t, reader, "bench/small", "pull")}
	request := blob.request()
	synced, stopPulls := context.WithCancel(ctx)
	var group errgroup.Group
	pulls := make([]int, clients)
	for i := range clients {
		group.Go(func() error {
			g, err := dialClient(blob.host, 1<<20)
			if err != nil {
				return err
			}
			defer g.conn.Close()
			for synced.Err() == nil {
				if _, err := g.get(request); err != nil {
					return err
				}
				pulls[i]++
			}
			return nil
		})
	}
	err := reader.Await(ctx, "bench/large", large.Tag, large.Digest)
	stopPulls()
	if err != nil {
		t.Fatalf("%v\n%s", err, child.Log())
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	resident := memoryOf(t, child.PID(), "VmHWM")
	total := 0
	for _, n := range pulls {
		total += n
	}
	t.Logf("%d pulls of 16 MiB meanwhile", total)
	return []figure{{
		name:    "memory of a connected registry that syncs a 2 GiB layer and serves pulls, 4 at a time",
		ferry:   fmt.Sprintf("%.1f MiB resident at most", float64(resident)/(1<<20)),
		target:  "under 64 MiB",
		reached: share(64<<20, resident),
	}}
}

// pullToken creates a token that may pull the benchmarks' images, like the clients at a site.
// An administrator's password would cost memory and time to check.
func pullToken(t *testing.T, sh *instance.Shell) instance.Login {
	t.Helper()
	sh.Run(t, "scope-map", "create", "--name", "pullers", "--repository", "bench/*", "content/read", "metadata/read")
	return instance.Token(t, sh, "puller", "pullers")
}
