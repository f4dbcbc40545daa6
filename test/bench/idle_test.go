//go:build bench

package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"ferry/test/image"
	"ferry/test/link"
	"ferry/test/site"
)

// A watched registry is one behind a proxy that notes when it answers what.
type watched struct {
	host string

	mu      sync.Mutex
	answers []answered
}

type answered struct {
	path string
	at   time.Time
}

func watch(t *testing.T, host string) *watched {
	w := &watched{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(r *http.Response) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answers = append(w.answers, answered{r.Request.URL.Path, time.Now()})
		return nil
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	w.host = strings.TrimPrefix(srv.URL, "http://")
	return w
}

// since returns the answers after the first n.
func (w *watched) since(n int) []answered {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]answered{}, w.answers[n:]...)
}

// idle is what a site costs that has everything, with a thousand repositories
// of fifty tags in its scope.
func idle(t *testing.T) figure {
	const repositories, tags = 1000, 50
	root := site.Start(t, site.Options{})
	admin := root.AsAdmin(t)
	empty := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	var g errgroup.Group
	g.SetLimit(8)
	for i := range repositories * tags {
		g.Go(func() error {
			path := fmt.Sprintf("/v2/bench/r%04d/manifests/t%02d", i%repositories, i/repositories)
			return send(t.Context(), admin, http.MethodPut, path, v1.MediaTypeImageIndex, empty)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, root.Host)
	l := link.Start(t, w.host)
	ship := site.Start(t,
		site.Connect(t, root.Admin(t, "root"), "ship1", l.Host, []string{"bench/*"}).Options(site.Options{}))
	sh := ship.Admin(t, "ship")
	if err := ship.AsAdmin(t).Await(t.Context(), fmt.Sprintf("bench/r%04d", repositories-1),
		fmt.Sprintf("t%02d", tags-1), digest.FromBytes(empty)); err != nil {
		t.Fatal(err)
	}
	for strings.TrimSpace(sh.Run(t, "sync", "status", "-r", "ship", "--query", "inSync")) != "true" {
		time.Sleep(time.Second)
	}
	// A whole cycle, from the end of the last one that had to tell of the sync.
	polled := func() {
		for from := len(w.since(0)); len(w.since(from)) == 0 && t.Context().Err() == nil; {
			time.Sleep(100 * time.Millisecond)
		}
	}
	polled()
	before, seen := l.Stats(t), len(w.since(0))
	polled()
	after, asked := l.Stats(t), w.since(seen)
	down, up := after.Down-before.Down, after.Up-before.Up
	return figure{
		name:   fmt.Sprintf("idle cycle, once a minute; %d repositories of %d tags", repositories, tags),
		ferry:  fmt.Sprintf("%d request, %d bytes up, %d down", len(asked), up, down),
		target: "1 request, under 1 KiB each way",
		met:    len(asked) == 1 && up < 1<<10 && down < 1<<10,
	}
}

// flow is how soon layers come of 500 images that changed at once.
func flow(t *testing.T) figure {
	const images, roundTrip = 500, 600 * time.Millisecond
	root := site.Start(t, site.Options{})
	admin := root.AsAdmin(t)
	push := func(i int) {
		m := image.New(t, image.Options{Seed: uint64(100 + i), Tag: fmt.Sprintf("t%04d", i), Layers: []int64{20 << 10}})
		if err := admin.Push(t.Context(), "bench/app", m); err != nil {
			t.Fatal(err)
		}
	}
	push(0)
	want, err := admin.Digest(t.Context(), "bench/app", "t0000")
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, root.Host)
	l := link.Start(t, w.host, "-down", "8mbit", "-up", "8mbit", "-rtt", roundTrip.String())
	ship := site.Start(t,
		site.Connect(t, root.Admin(t, "root"), "ship1", l.Host, []string{"bench/app"}).Options(site.Options{}))
	if err := ship.AsAdmin(t).Await(t.Context(), "bench/app", "t0000", want); err != nil {
		t.Fatal(err)
	}
	sh := ship.Admin(t, "ship")
	sh.Run(t, "sync", "pause", "-r", "ship")
	for i := range images {
		push(1 + i)
	}
	seen := len(w.since(0))
	sh.Run(t, "sync", "resume", "-r", "ship")
	var heard, first time.Time // when the answers left the root that told of the changes, and had the first layer
	for planned := false; first.IsZero() && t.Context().Err() == nil; time.Sleep(100 * time.Millisecond) {
		for _, a := range w.since(seen) {
			switch {
			case strings.HasSuffix(a.path, "/plan"):
				planned = true
			case strings.HasSuffix(a.path, "/poll") && !planned:
				heard = a.at
			case strings.Contains(a.path, "/blobs") && first.IsZero():
				first = a.at
			}
		}
	}
	trips := first.Sub(heard).Seconds() / roundTrip.Seconds()
	return figure{
		name:   "first layer of 500 images of 20 KiB that changed at once; 600 ms",
		ferry:  fmt.Sprintf("%.1f s, %.1f round trips", first.Sub(heard).Seconds(), trips),
		target: "within 3 round trips", met: trips <= 3,
	}
}
