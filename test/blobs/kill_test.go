//go:build s3

package blobs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/config"
	"ferry/internal/server"
	"ferry/test/image"
	"ferry/test/instance"
)

// A killer is a proxy before the object store. It kills a process at one of its requests, before or after
// the store gets the request.
type killer struct {
	mu     sync.Mutex
	left   int // requests until then
	random *rand.Rand
	victim *os.Process
	next   http.Handler
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.left--
	now, after := k.left == 0 && k.victim != nil, k.random.IntN(2) == 0
	if now && !after {
		_ = k.victim.Kill() // it may have ended
	}
	k.mu.Unlock()
	k.next.ServeHTTP(w, r)
	if now && after {
		_ = k.victim.Kill()
	}
}

// killed runs the command again and again, and kills it each time at a request, until it ends before
// that. It returns how often it was killed.
func (k *killer) killed(t *testing.T, m *mover, toBucket bool, args ...string) (kills int) {
	t.Helper()
	for most := 10; ; most *= 2 { // every copy needs more than ten requests
		cmd := m.command(t, toBucket, args...)
		said := new(strings.Builder)
		cmd.Stderr = said
		k.mu.Lock()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		k.left, k.victim = 1+k.random.IntN(most), cmd.Process
		k.mu.Unlock()
		err := cmd.Wait()
		k.mu.Lock()
		k.victim = nil
		k.mu.Unlock()
		if err == nil {
			return kills
		}
		if cmd.ProcessState.Exited() {
			t.Fatalf("the copy ends with %v\n%s", err, said)
		}
		kills++
	}
}

// TestKilledCopiesLoseNothing kills each copy many times, while clients push and delete, and collections
// run at the source.
func TestKilledCopiesLoseNothing(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testKilledCopies(t, seed) })
	}
}

func testKilledCopies(t *testing.T, seed uint64) {
	m := newMover(t)
	to, err := url.Parse(m.store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	k := &killer{random: rand.New(rand.NewPCG(seed, 0)), next: &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, // it is signed
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	proxy := httptest.NewServer(k)
	t.Cleanup(proxy.Close)
	for _, toBucket := range []bool{true, false} {
		m.endpoint = m.store.Endpoint // the instance itself has no faults
		l, stop := m.serve(t, !toBucket)
		for n := range uint64(4) {
			m.push(t, l, fmt.Sprint("first", n), seed*100+n)
		}
		wait := m.load(t, l, seed)
		m.endpoint = proxy.URL
		kills := k.killed(t, m, toBucket)
		wait()
		stop()
		var before, after []string
		if toBucket {
			before = m.blobFiles(t)
		}
		finals := k.killed(t, m, toBucket, "--final")
		if toBucket {
			after = m.blobFiles(t)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error("the final copy has changed the source:", diff)
		}
		t.Logf("to the bucket: %v; the copy was killed %d times, and the final one %d times", toBucket, kills, finals)
		if kills == 0 {
			t.Error("the copy was never killed")
		}
		m.endpoint = m.store.Endpoint
		l, stop = m.serve(t, toBucket)
		m.pullAll(t, l)
		stop()
		if !toBucket {
			continue
		}
		for _, dir := range []string{"blobs", "partial"} { // so that all comes from the bucket again
			if err := os.RemoveAll(filepath.Join(m.dir, dir)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// serve runs the instance in this process, with a collection every few milliseconds.
func (m *mover) serve(t *testing.T, inBucket bool) (instance.Login, func()) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.Listen = m.dir, "127.0.0.1:0"
	if inBucket {
		cfg.Blobs, cfg.BlobsEndpoint, cfg.BlobsRegion = m.bucket(), m.endpoint, "us-east-1"
		cfg.BlobsCredentialsFile = m.store.Credentials
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan server.Ready, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, cfg, server.Options{
			Collection: server.Collection{Every: 200 * time.Millisecond, Grace: time.Second},
			Ready:      func(r server.Ready) { ready <- r },
		})
	}()
	select {
	case err := <-done:
		stop()
		t.Fatal(err)
		return instance.Login{}, nil
	case r := <-ready:
		text, err := os.ReadFile(r.AdminPasswordFile)
		if err != nil {
			t.Fatal(err)
		}
		l := instance.Login{Host: r.Addr.String(), User: "admin", Password: strings.TrimSpace(string(text))}
		return l, func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// load pushes images and deletes some again. The result waits for its end.
func (m *mover) load(t *testing.T, l instance.Login, seed uint64) (wait func()) {
	done := make(chan error, 1)
	next := uint64(len(m.images)) + seed*1000
	go func() {
		done <- func() error {
			for n := next; n < next+8; n++ {
				repo := fmt.Sprintf("app%d", n)
				i := image.New(t, image.Options{Seed: n, Layers: []int64{1000, 300_000, int64(n%2) * 9 << 20}})
				if err := pushPatiently(t.Context(), l, repo, i); err != nil {
					return err
				}
				if n%3 != 0 {
					m.images[repo] = i
					continue
				}
				path := "/v2/" + repo + "/manifests/" + i.Digest.String()
				resp, err := l.Do(t.Context(), http.MethodDelete, path, nil, nil, 0)
				if err != nil {
					return err
				}
				resp.Body.Close()
			}
			return nil
		}()
	}()
	return func() {
		t.Helper()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// pushPatiently pushes an image, and tries again after 429: a collection looks at the upload.
func pushPatiently(ctx context.Context, l instance.Login, repo string, i *image.Image) error {
	for {
		err := l.Push(ctx, repo, i)
		if answer, ok := errors.AsType[*instance.StatusError](err); !ok || answer.Status != http.StatusTooManyRequests {
			return err
		}
	}
}

// blobFiles returns the blobs in the data directory, with their sizes and times.
func (m *mover) blobFiles(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range []string{"blobs/sha256", "partial"} {
		files, err := os.ReadDir(filepath.Join(m.dir, filepath.FromSlash(dir)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(f.Name(), info.Size(), info.ModTime()))
		}
	}
	return all
}
