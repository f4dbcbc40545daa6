//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/link"
	"ferry/test/site"
)

// How long a case may take: Ferry, and each of the programs beside it.
const (
	patience      = 5 * time.Minute
	peersPatience = 2 * time.Minute
)

// A journey is images on their way from a root to somewhere else over a link.
type journey struct {
	id     string
	name   string
	flags  []string // of linksim
	layers []int64  // of each image
	images int
	rate   float64 // of the link, bytes per second; what the ideal is made of
	cutFor time.Duration
	kill   time.Duration // how often a program is killed; 0 is never
	most   float64       // times the images' bytes that may cross the link; 0 is not asked
	target string        // of the time; "" is not asked
	met    func(a arrival, least time.Duration, peers []arrival) bool
}

// An arrival is how a program fared.
type arrival struct {
	done  bool
	took  time.Duration
	bytes int64 // that crossed the link
	cuts  int64
}

func (a arrival) String() string {
	if !a.done {
		return fmt.Sprintf("not done after %.0f s and %.1f MiB", a.took.Seconds(), mebibytes(a.bytes))
	}
	return fmt.Sprintf("%.1f s, %.1f MiB", a.took.Seconds(), mebibytes(a.bytes))
}

const mbit = 1e6 / 8

var journeys = []journey{
	{
		id: "clean", name: "clean: 100 Mbit/s, 20 ms; a 64 MiB image",
		flags:  []string{"-down", "100mbit", "-up", "100mbit", "-rtt", "20ms"},
		layers: []int64{40 << 20, 20 << 20, 4 << 20}, images: 1, rate: 100 * mbit,
		target: "no slower than regsync",
		met: func(a arrival, _ time.Duration, peers []arrival) bool {
			return a.done && float64(a.took) <= 1.05*float64(peers[0].took)
		},
	},
	{
		id: "cuts", name: "cuts: 8 Mbit/s, 300 ms, cut every 15 s for 3 s; a 32 MiB image", most: 1.02,
		flags:  []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "300ms", "-cut-every", "15s", "-cut-for", "3s"},
		cutFor: 3 * time.Second,
		layers: []int64{24 << 20, 6 << 20, 2 << 20}, images: 1, rate: 8 * mbit,
		target: "1.15 × the ideal time",
		met: func(a arrival, least time.Duration, _ []arrival) bool {
			return a.done && float64(a.took) <= 1.15*float64(least)
		},
	},
	{
		id: "kills", name: "kills: 8 Mbit/s, 300 ms, `kill -9` every 10 s; a 32 MiB image",
		flags: []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "300ms"},
		kill:  10 * time.Second, most: 1.05,
		layers: []int64{24 << 20, 6 << 20, 2 << 20}, images: 1, rate: 8 * mbit,
	},
	{
		id: "satellite", name: "satellite: 4 Mbit/s, 600 ms, 1 % loss; a 64 MiB image",
		flags:  []string{"-down", "4mbit", "-up", "4mbit", "-rtt", "600ms", "-loss", "0.01"},
		layers: []int64{40 << 20, 20 << 20, 4 << 20}, images: 1, rate: 4 * mbit,
		target: "90 % of the rate",
		met: func(a arrival, least time.Duration, _ []arrival) bool {
			return a.done && float64(least) >= 0.9*float64(a.took)
		},
	},
	{
		id: "many", name: "many: 8 Mbit/s, 600 ms; 500 images of 20 KiB",
		flags:  []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "600ms"},
		layers: []int64{20 << 10}, images: 500, rate: 8 * mbit,
		target: "none; the ideal is bytes / rate",
		met:    func(a arrival, _ time.Duration, _ []arrival) bool { return a.done },
	},
}

// TestLinks lets Ferry, regsync and skopeo fetch the same images over the same
// links, one after the other.
func TestLinks(t *testing.T) {
	var figures []figure
	for _, j := range journeys {
		t.Run(j.id, func(t *testing.T) { figures = append(figures, j.run(t)...) })
	}
	t.Run("flow", func(t *testing.T) { figures = append(figures, flow(t)) })
	t.Run("idle", func(t *testing.T) { figures = append(figures, idle(t)) })
	if t.Failed() {
		return
	}
	var b strings.Builder
	b.WriteString(measuredOn(t))
	b.WriteString("| link | Ferry | regsync; skopeo | ideal ÷ Ferry | target | met |\n|---|---|---|---|---|---|\n")
	writeRows(&b, figures)
	fmt.Print("\n", b.String())
	if *update {
		insert(t, "../../docs/performance.md", "links: make bench-links UPDATE=1", "end of links", b.String())
	}
}

// run is the journey, by each program.
func (j journey) run(t *testing.T) []figure {
	root := site.Start(t, site.Options{})
	admin := root.AsAdmin(t)
	var size int64
	var last *image.Image
	for i := range j.images {
		last = image.New(t, image.Options{Seed: uint64(100 + i), Tag: fmt.Sprintf("t%04d", i), Layers: j.layers})
		if err := admin.Push(t.Context(), "bench/app", last); err != nil {
			t.Fatal(err)
		}
		size += last.Size
	}
	sh := root.Admin(t, "root")
	sh.Run(t, "scope-map", "create", "--name", "listers", "--repository", "bench/*", "content/read", "metadata/read")
	reader := site.Token(t, sh, "lister", "listers")
	over := func(t *testing.T, name string, patience time.Duration, prepare func(t *testing.T, host string) fetcher) (a arrival) {
		t.Run(name, func(t *testing.T) {
			l := link.Start(t, root.Host, j.flags...)
			fetch := prepare(t, l.Host)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			start := time.Now()
			a.done = fetch(ctx)
			a.took = time.Since(start)
			s := l.Stats(t)
			a.bytes, a.cuts = s.Down, s.Cuts
			t.Logf("%s: %s, %d cuts, %d connections", name, a, s.Cuts, s.Connections)
		})
		return a
	}
	want := map[string]digest.Digest{}
	for i := range j.images {
		tag := fmt.Sprintf("t%04d", i)
		d, err := admin.Digest(t.Context(), "bench/app", tag)
		if err != nil {
			t.Fatal(err)
		}
		want[tag] = d
	}
	ours := over(t, "ferry", patience, func(t *testing.T, host string) fetcher {
		o := site.Connect(t, sh, "ship1", host, []string{"bench/app"}, "--client-tokens", reader.User).
			Options(site.Options{DataDir: filepath.Join(t.TempDir(), "data"), Listen: daemon.FreeAddress(t)})
		here := reader
		here.Host = o.Listen
		return func(ctx context.Context) bool {
			arrived := make(chan error, 1)
			go func() {
				for tag, d := range want {
					if err := here.Await(ctx, "bench/app", tag, d); err != nil {
						arrived <- err
						return
					}
				}
				arrived <- nil
			}()
			return j.live(t, o, arrived) == nil
		}
	})
	source := reader
	source.Host = root.Host
	peers := []arrival{
		over(t, "regsync", peersPatience,
			func(t *testing.T, host string) fetcher { return j.regsync(t, source, host) }),
		over(t, "skopeo", peersPatience, func(t *testing.T, host string) fetcher { return j.skopeo(t, source, host) }),
	}
	least := time.Duration(float64(size)/j.rate*float64(time.Second)) + time.Duration(ours.cuts)*j.cutFor
	var figures []figure
	beside := fmt.Sprintf("%s; %s", peers[0], peers[1])
	if j.target != "" {
		figures = append(figures, figure{
			name: j.name, ferry: ours.String(), beside: beside,
			ratio:  fmt.Sprintf("%.2f", least.Seconds()/ours.took.Seconds()),
			target: j.target, met: j.met(ours, least, peers),
		})
		beside = ""
	}
	if j.most > 0 {
		figures = append(figures, figure{
			name:  j.name + "; its bytes",
			ferry: fmt.Sprintf("%s; %.3f × the bytes", ours, float64(ours.bytes)/float64(size)), beside: beside,
			ratio:  fmt.Sprintf("%.2f", float64(size)/float64(ours.bytes)),
			target: fmt.Sprintf("%.2f × the bytes", j.most), met: ours.done &&
				float64(ours.bytes) <= j.most*float64(size),
		})
	}
	return figures
}

// live lets a connected registry run, and be killed now and then, until
// everything has arrived.
func (j journey) live(t *testing.T, o site.Options, arrived <-chan error) error {
	ship := site.Start(t, o)
	var ticks <-chan time.Time // never
	if j.kill > 0 {
		tick := time.NewTicker(j.kill)
		defer tick.Stop()
		ticks = tick.C
	}
	for {
		select {
		case err := <-arrived:
			return err
		case <-ticks:
			ship.Kill(t)
			ship = site.Start(t, o)
		}
	}
}

// A fetcher fetches all images, and reports whether it did before ctx ended.
type fetcher func(ctx context.Context) bool

// regsync copies bench/app from host into an image layout, with its own
// defaults but for the tries, of which it may have as many as there is time for.
func (j journey) regsync(t *testing.T, from site.Login, host string) fetcher {
	dir := t.TempDir()
	config := fmt.Sprintf(`version: 1
creds:
  - {registry: %[1]s, user: %[2]s, pass: %[3]s, tls: disabled}
sync:
  - {source: %[1]s/bench/app, target: ocidir://%[4]s/app, type: repository}
`, host, from.User, from.Password, dir)
	path := filepath.Join(dir, "regsync.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program := tool(t, "regsync")
	return func(ctx context.Context) bool { return j.untilDone(ctx, t, dir, nothing, program, "once", "-c", path) }
}

// skopeo copies bench/app from host into a directory. It refuses to write to
// one that is there, so each try begins without what the last one left.
func (j journey) skopeo(t *testing.T, from site.Login, host string) fetcher {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	return func(ctx context.Context) bool {
		return j.untilDone(ctx, t, dir, func() error { return os.RemoveAll(images) },
			"skopeo", "--insecure-policy", "sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false",
			"--src-creds", from.User+":"+from.Password, "--retry-times", "3", host+"/bench/app", images)
	}
}

// nothing is what a program needs that goes on with what it left.
func nothing() error { return nil }

// untilDone runs a program again until it succeeds or ctx ends, each time after
// prepare.
func (j journey) untilDone(ctx context.Context, t *testing.T, dir string, prepare func() error, program string,
	args ...string) bool {
	for ctx.Err() == nil {
		if err := prepare(); err != nil {
			t.Error(err)
			return false
		}
		life, end := ctx, context.CancelFunc(func() {})
		if j.kill > 0 {
			life, end = context.WithTimeout(ctx, j.kill)
		}
		cmd := exec.CommandContext(life, program, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		end()
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			t.Logf("%s: %v: %.300s", filepath.Base(program), err, strings.TrimSpace(string(out)))
		}
	}
	return false
}
