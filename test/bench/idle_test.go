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
	"ferry/test/instance"
	"ferry/test/link"
)

// A watchedRegistry is a registry behind a proxy that records the time of each response.
type watchedRegistry struct {
	host string

	mu        sync.Mutex
	responses []response
}

type response struct {
	path string
	at   time.Time
}

func watchRegistry(t *testing.T, host string) *watchedRegistry {
	w := &watchedRegistry{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(r *http.Response) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.responses = append(w.responses, response{r.Request.URL.Path, time.Now()})
		return nil
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	w.host = strings.TrimPrefix(srv.URL, "http://")
	return w
}

// after returns the responses after the first n.
func (w *watchedRegistry) after(n int) []response {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]response{}, w.responses[n:]...)
}

// idleCycle measures the traffic of a connected registry that is in sync, with a thousand
// repositories of fifty tags in its subscription.
func idleCycle(t *testing.T) figure {
	const repositories, tags = 1000, 50
	root := instance.Start(t, instance.Options{})
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
	w := watchRegistry(t, root.Host)
	l := link.Start(t, w.host)
	child := instance.Start(t,
		instance.Connect(t, root.Admin(t, "root"), "ship1", l.Host, []string{"bench/*"}).Options(instance.Options{}))
	sh := child.Admin(t, "ship")
	if err := child.AsAdmin(t).Await(t.Context(), fmt.Sprintf("bench/r%04d", repositories-1),
		fmt.Sprintf("t%02d", tags-1), digest.FromBytes(empty)); err != nil {
		t.Fatal(err)
	}
	for strings.TrimSpace(sh.Run(t, "sync", "status", "-r", "ship", "--query", "inSync")) != "true" {
		time.Sleep(time.Second)
	}
	// Measure a whole cycle, from the end of the last poll that reports the sync.
	waitForPoll := func() {
		for from := len(w.after(0)); len(w.after(from)) == 0 && t.Context().Err() == nil; {
			time.Sleep(100 * time.Millisecond)
		}
	}
	waitForPoll()
	before, seen := l.Stats(t), len(w.after(0))
	waitForPoll()
	after, asked := l.Stats(t), w.after(seen)
	down, up := after.Down-before.Down, after.Up-before.Up
	return figure{
		name:    fmt.Sprintf("idle cycle, once a minute; %d repositories of %d tags", repositories, tags),
		ferry:   fmt.Sprintf("%d request, %d bytes up, %d down", len(asked), up, down),
		target:  "1 request, under 1 KiB each way",
		reached: min(share(1, len(asked)), share(1<<10, up), share(1<<10, down)),
	}
}

// firstLayer measures how soon the first layer flows after 500 images changed at once.
func firstLayer(t *testing.T) figure {
	const images, roundTrip = 500, 600 * time.Millisecond
	root := instance.Start(t, instance.Options{})
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
	w := watchRegistry(t, root.Host)
	l := link.Start(t, w.host, "-down", "8mbit", "-up", "8mbit", "-rtt", roundTrip.String())
	child := instance.Start(t,
		instance.Connect(t, root.Admin(t, "root"), "ship1", l.Host, []string{"bench/app"}).Options(instance.Options{}))
	if err := child.AsAdmin(t).Await(t.Context(), "bench/app", "t0000", want); err != nil {
		t.Fatal(err)
	}
	sh := child.Admin(t, "ship")
	sh.Run(t, "sync", "pause", "-r", "ship")
	for i := range images {
		push(1 + i)
	}
	seen := len(w.after(0))
	sh.Run(t, "sync", "resume", "-r", "ship")
	var listed, first time.Time // when the root sent the changes, and the first layer
	for planned := false; first.IsZero() && t.Context().Err() == nil; time.Sleep(100 * time.Millisecond) {
		for _, a := range w.after(seen) {
			switch {
			case strings.HasSuffix(a.path, "/plan"):
				planned = true
			case strings.HasSuffix(a.path, "/poll") && !planned:
				listed = a.at
			case strings.Contains(a.path, "/blobs") && first.IsZero():
				first = a.at
			}
		}
	}
	trips := first.Sub(listed).Seconds() / roundTrip.Seconds()
	return figure{
		name:   "first layer of 500 images of 20 KiB that changed at once; 600 ms",
		ferry:  fmt.Sprintf("%.1f s, %.1f round trips", first.Sub(listed).Seconds(), trips),
		target: "within 3 round trips", reached: share(3, trips),
	}
}
