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
	"ferry/test/instance"
	"ferry/test/link"
)

// How long a case may take with Ferry, and with each other program.
const (
	ferryTimeout = 5 * time.Minute
	peerTimeout  = 2 * time.Minute
)

// A linkCase is a sync of images over a link.
type linkCase struct {
	id        string
	name      string
	flags     []string // of linksim
	layers    []int64  // of each image
	images    int
	rate      float64 // of the link, in bytes per second, for the ideal time
	cutFor    time.Duration
	killEvery time.Duration // time between kills of the program; 0 is never
	maxBytes  float64       // limit for the transferred bytes, in sizes of the images; 0 is none
	target    string        // for the time; "" is none
	// reached is the share of the target of an outcome that is done.
	reached func(a outcome, least time.Duration, peers []outcome) float64
}

// An outcome is the result of one program.
type outcome struct {
	done  bool
	took  time.Duration
	bytes int64 // transferred over the link
	cuts  int64
}

func (a outcome) String() string {
	if !a.done {
		return fmt.Sprintf("not done after %.0f s and %.1f MiB", a.took.Seconds(), mebibytes(a.bytes))
	}
	return fmt.Sprintf("%.1f s, %.1f MiB", a.took.Seconds(), mebibytes(a.bytes))
}

const mbit = 1e6 / 8

var linkCases = []linkCase{
	{
		id: "clean", name: "clean: 100 Mbit/s, 20 ms; a 64 MiB image",
		flags:  []string{"-down", "100mbit", "-up", "100mbit", "-rtt", "20ms"},
		layers: []int64{40 << 20, 20 << 20, 4 << 20}, images: 1, rate: 100 * mbit,
		target: "no slower than regsync",
		reached: func(a outcome, _ time.Duration, peers []outcome) float64 {
			return 1.05 * share(peers[0].took, a.took)
		},
	},
	{
		id: "cuts", name: "cuts: 8 Mbit/s, 300 ms, cut every 15 s for 3 s; a 32 MiB image", maxBytes: 1.02,
		flags:  []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "300ms", "-cut-every", "15s", "-cut-for", "3s"},
		cutFor: 3 * time.Second,
		layers: []int64{24 << 20, 6 << 20, 2 << 20}, images: 1, rate: 8 * mbit,
		target: "1.15 × the ideal time",
		reached: func(a outcome, least time.Duration, _ []outcome) float64 {
			return 1.15 * share(least, a.took)
		},
	},
	{
		id: "kills", name: "kills: 8 Mbit/s, 300 ms, `kill -9` every 10 s; a 32 MiB image",
		flags:     []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "300ms"},
		killEvery: 10 * time.Second, maxBytes: 1.05,
		layers: []int64{24 << 20, 6 << 20, 2 << 20}, images: 1, rate: 8 * mbit,
	},
	{
		id: "satellite", name: "satellite: 4 Mbit/s, 600 ms, 1 % loss; a 64 MiB image",
		flags:  []string{"-down", "4mbit", "-up", "4mbit", "-rtt", "600ms", "-loss", "0.01"},
		layers: []int64{40 << 20, 20 << 20, 4 << 20}, images: 1, rate: 4 * mbit,
		target: "90 % of the rate",
		reached: func(a outcome, least time.Duration, _ []outcome) float64 {
			return share(least, a.took) / 0.9
		},
	},
	{
		id: "many", name: "many: 8 Mbit/s, 600 ms; 500 images of 20 KiB",
		flags:  []string{"-down", "8mbit", "-up", "8mbit", "-rtt", "600ms"},
		layers: []int64{20 << 10}, images: 500, rate: 8 * mbit,
		target:  "none; the ideal is bytes / rate",
		reached: func(outcome, time.Duration, []outcome) float64 { return 1 },
	},
}

// TestLinks measures Ferry, regsync and skopeo with the same images over the same links, one
// after the other.
func TestLinks(t *testing.T) {
	var figures []figure
	measure := func(name string, run func(t *testing.T) []figure) {
		t.Run(name, func(t *testing.T) {
			measured := run(t)
			figures = append(figures, measured...)
			check(t, measured)
		})
	}
	for _, j := range linkCases {
		measure(j.id, j.run)
	}
	measure("flow", func(t *testing.T) []figure { return []figure{firstLayer(t)} })
	measure("idle", func(t *testing.T) []figure { return []figure{idleCycle(t)} })
	var b strings.Builder
	b.WriteString(measuredWhereAndWhen(t))
	b.WriteString("| link | Ferry | regsync; skopeo | ideal ÷ Ferry | target | met |\n|---|---|---|---|---|---|\n")
	writeRows(&b, figures)
	fmt.Print("\n", b.String())
	if *update && !t.Failed() {
		replaceBetween(t, "../../docs/performance.md", "links: make bench-links UPDATE=1", "end of links", b.String())
	}
}

// run measures the case with each program.
func (j linkCase) run(t *testing.T) []figure {
	root := instance.Start(t, instance.Options{})
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
	reader := instance.Token(t, sh, "lister", "listers")
	measure := func(
		t *testing.T, name string, limit time.Duration, prepare func(t *testing.T, host string) fetchFunc,
	) (a outcome) {
		t.Run(name, func(t *testing.T) {
			l := link.Start(t, root.Host, j.flags...)
			fetch := prepare(t, l.Host)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
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
	ours := measure(t, "ferry", ferryTimeout, func(t *testing.T, host string) fetchFunc {
		o := instance.Connect(t, sh, "ship1", host, []string{"bench/app"}, "--client-tokens", reader.User).
			Options(instance.Options{DataDir: filepath.Join(t.TempDir(), "data"), Listen: daemon.FreeAddress(t)})
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
			return j.runAndKill(t, o, arrived) == nil
		}
	})
	source := reader
	source.Host = root.Host
	peers := []outcome{
		measure(t, "regsync", peerTimeout,
			func(t *testing.T, host string) fetchFunc { return j.regsync(t, source, host) }),
		measure(t, "skopeo", peerTimeout,
			func(t *testing.T, host string) fetchFunc { return j.skopeo(t, source, host) }),
	}
	least := time.Duration(float64(size)/j.rate*float64(time.Second)) + time.Duration(ours.cuts)*j.cutFor
	var figures []figure
	reached := func(share float64) float64 {
		if !ours.done {
			return 0
		}
		return share
	}
	beside := fmt.Sprintf("%s; %s", peers[0], peers[1])
	if j.target != "" {
		figures = append(figures, figure{
			name: j.name, ferry: ours.String(), peer: beside,
			ratio:  fmt.Sprintf("%.2f", least.Seconds()/ours.took.Seconds()),
			target: j.target, reached: reached(j.reached(ours, least, peers)),
		})
		beside = ""
	}
	if j.maxBytes > 0 {
		figures = append(figures, figure{
			name:  j.name + "; its bytes",
			ferry: fmt.Sprintf("%s; %.3f × the bytes", ours, float64(ours.bytes)/float64(size)), peer: beside,
			ratio:   fmt.Sprintf("%.2f", float64(size)/float64(ours.bytes)),
			target:  fmt.Sprintf("%.2f × the bytes", j.maxBytes),
			reached: reached(j.maxBytes * share(float64(size), float64(ours.bytes))),
		})
	}
	return figures
}

// runAndKill runs a connected registry, and kills and restarts it every killEvery, until all
// images have arrived.
func (j linkCase) runAndKill(t *testing.T, o instance.Options, arrived <-chan error) error {
	ship := instance.Start(t, o)
	var ticks <-chan time.Time // never
	if j.killEvery > 0 {
		tick := time.NewTicker(j.killEvery)
		defer tick.Stop()
		ticks = tick.C
	}
	for {
		select {
		case err := <-arrived:
			return err
		case <-ticks:
			ship.Kill(t)
			ship = instance.Start(t, o)
		}
	}
}

// A fetchFunc fetches all images, and reports whether it succeeded before ctx ended.
type fetchFunc func(ctx context.Context) bool

// regsync copies bench/app from host into an image layout, with its own defaults. It is started
// again until it succeeds.
func (j linkCase) regsync(t *testing.T, from instance.Login, host string) fetchFunc {
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
	return func(ctx context.Context) bool {
		return j.untilDone(ctx, t, dir, noPreparation, program, "once", "-c", path)
	}
}

// skopeo copies bench/app from host into a directory. It refuses to write to an existing
// directory, so each try starts from nothing.
func (j linkCase) skopeo(t *testing.T, from instance.Login, host string) fetchFunc {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	return func(ctx context.Context) bool {
		return j.untilDone(ctx, t, dir, func() error { return os.RemoveAll(images) },
			"skopeo", "--insecure-policy", "sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false",
			"--src-creds", from.User+":"+from.Password, "--retry-times", "3", host+"/bench/app", images)
	}
}

// noPreparation prepares a program that continues with its own files.
func noPreparation() error { return nil }

// untilDone runs a program repeatedly until it succeeds or ctx ends. It calls prepare before
// each run.
func (j linkCase) untilDone(ctx context.Context, t *testing.T, dir string, prepare func() error, program string,
	args ...string) bool {
	for ctx.Err() == nil {
		if err := prepare(); err != nil {
			t.Error(err)
			return false
		}
		runCtx, cancel := ctx, context.CancelFunc(func() {})
		if j.killEvery > 0 {
			runCtx, cancel = context.WithTimeout(ctx, j.killEvery)
		}
		cmd := exec.CommandContext(runCtx, program, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			t.Logf("%s: %v: %.300s", filepath.Base(program), err, strings.TrimSpace(string(out)))
		}
	}
	return false
}
