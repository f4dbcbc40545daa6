//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/link"
	"ferry/test/site"
)

const timeout = 10 * time.Minute

// memory is what a connected registry needs while it syncs a layer of 2 GiB
// and serves pulls.
func memory(t *testing.T) []figure {
	const clients = 4
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	root := site.Start(t, site.Options{})
	admin := root.AsAdmin(t)
	small := image.New(t, image.Options{Seed: 3, Layers: []int64{16 << 20}})
	if err := admin.Push(ctx, "bench/small", small); err != nil {
		t.Fatal(err)
	}
	sh := root.Admin(t, "root")
	reader := puller(t, sh)
	crossing := site.Connect(t, sh, "ship1", root.Host, []string{"bench/small", "bench/large"}, "--client-tokens", reader.User)
	ship := site.Start(t, crossing.Options(site.Options{}))
	reader.Host = ship.Host
	if err := reader.Await(ctx, "bench/small", small.Tag, small.Digest); err != nil {
		t.Fatal(err)
	}

	large := image.New(t, image.Options{Seed: 4, Layers: []int64{2 << 30}, Plain: true})
	if err := admin.Push(ctx, "bench/large", large); err != nil {
		t.Fatal(err)
	}
	blob := side{ship.Host, "/v2/bench/small/blobs/" + small.Manifest.Layers[0].Digest.String(), bearer(t, reader, "bench/small")}
	synced, done := context.WithCancel(ctx)
	var group errgroup.Group
	pulls := make([]int, clients)
	for i := range clients {
		group.Go(func() error {
			g, err := newGetter(blob.host, blob.path, blob.authorization)
			if err != nil {
				return err
			}
			defer g.conn.Close()
			for synced.Err() == nil {
				if _, err := g.get(); err != nil {
					return err
				}
				pulls[i]++
			}
			return nil
		})
	}
	err := reader.Await(ctx, "bench/large", large.Tag, large.Digest)
	done()
	if err != nil {
		t.Fatalf("%v\n%s", err, ship.Log())
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	resident := peak(t, ship.PID())
	total := 0
	for _, n := range pulls {
		total += n
	}
	t.Logf("%d pulls of 16 MiB meanwhile", total)
	return []figure{{
		name:   "memory of a connected registry that syncs a 2 GiB layer and serves pulls, 4 at a time",
		ferry:  fmt.Sprintf("%.1f MiB resident at most", float64(resident)/(1<<20)),
		target: "under 64 MiB",
		met:    resident < 64<<20,
	}}
}

// puller makes a token that pulls what the measurements push. It is what runs
// at a site; an administrator's password costs memory and time to check.
func puller(t *testing.T, sh *site.Shell) site.Login {
	t.Helper()
	sh.Run(t, "scope-map", "create", "--name", "pullers", "--repository", "bench/*", "content/read")
	return site.Token(t, sh, "puller", "pullers")
}

var highWater = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peak returns the most memory that a process has had resident, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", text)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// A passage is an image of 32 MB, with a layer of 24 MB, on its way to a
// connected registry over a link of 8 Mbit/s and 300 ms.
type passage struct {
	image  *image.Image
	link   *link.Link
	reader site.Login // of the connected registry, without its Host
	site   site.Options
}

const rate = 1e6 // of a passage's link, in bytes per second

func embark(ctx context.Context, t *testing.T, flags ...string) passage {
	t.Helper()
	root := site.Start(t, site.Options{})
	p := passage{image: image.New(t, image.Options{Seed: 5, Layers: []int64{24_000_000, 6_000_000, 2_000_000}})}
	if err := root.AsAdmin(t).Push(ctx, "bench/app", p.image); err != nil {
		t.Fatal(err)
	}
	sh := root.Admin(t, "root")
	p.reader = puller(t, sh)
	p.link = link.Start(t, root.Host, append([]string{"-down", "8mbit", "-up", "8mbit", "-rtt", "300ms"}, flags...)...)
	p.site = site.Connect(t, sh, "ship1", p.link.Host, []string{"bench/app"}, "--client-tokens", p.reader.User).
		Options(site.Options{DataDir: filepath.Join(t.TempDir(), "data"), Listen: daemon.FreeAddress(t)})
	p.reader.Host = p.site.Listen
	return p
}

// cuts is a passage whose link is cut every 15 seconds.
func cuts(t *testing.T) []figure {
	const every, cutFor = 15 * time.Second, 3 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	p := embark(ctx, t, "-cut-every", every.String(), "-cut-for", cutFor.String())
	img := p.image
	start := time.Now()
	before := p.link.Stats(t)
	ship := site.Start(t, p.site)
	if err := p.reader.Await(ctx, "bench/app", img.Tag, img.Digest); err != nil {
		t.Fatalf("%v\n%s", err, ship.Log())
	}
	elapsed := time.Since(start)
	after := p.link.Stats(t)
	bytes := after.Down - before.Down
	down := time.Duration(after.Cuts-before.Cuts) * cutFor
	least := time.Duration(float64(img.Size)/rate*float64(time.Second)) + down
	slower := float64(elapsed) / float64(least)
	more := float64(bytes) / float64(img.Size)
	return []figure{
		{
			name:   "time of a 32 MB image over 8 Mbit/s and 300 ms, cut every 15 s for 3 s",
			ferry:  fmt.Sprintf("%.1f s", elapsed.Seconds()),
			beside: fmt.Sprintf("bytes / rate + %d cuts: %.1f s", after.Cuts-before.Cuts, least.Seconds()),
			ratio:  fmt.Sprintf("%.3f", slower),
			target: "1.15",
			met:    slower <= 1.15,
		},
		{
			name:   "bytes of the same",
			ferry:  fmt.Sprintf("%d", bytes),
			beside: fmt.Sprintf("the image: %d", img.Size),
			ratio:  fmt.Sprintf("%.3f", more),
			target: "1.02",
			met:    more <= 1.02,
		},
	}
}

// kills is a passage whose connected registry is killed every 10 seconds.
func kills(t *testing.T) []figure {
	const every = 10 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	p := embark(ctx, t)
	img := p.image
	before := p.link.Stats(t)
	arrived := make(chan error, 1)
	go func() { arrived <- p.reader.Await(ctx, "bench/app", img.Tag, img.Digest) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	ship := site.Start(t, p.site)
	count := 0
	for waiting := true; waiting; {
		select {
		case err := <-arrived:
			if err != nil {
				t.Fatalf("%v\n%s", err, ship.Log())
			}
			waiting = false
		case <-tick.C:
			ship.Kill(t)
			ship = site.Start(t, p.site)
			count++
		}
	}
	bytes := p.link.Stats(t).Down - before.Down
	more := float64(bytes) / float64(img.Size)
	return []figure{{
		name:   fmt.Sprintf("bytes of the same on a link without cuts, with `kill -9` every 10 s (%d times)", count),
		ferry:  fmt.Sprintf("%d", bytes),
		beside: fmt.Sprintf("the image: %d", img.Size),
		ratio:  fmt.Sprintf("%.3f", more),
		target: "1.05",
		met:    more <= 1.05,
	}}
}
