//go:build s3

package storage_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob/s3"
	"ferry/internal/storage/blob/s3/s3test"
	"ferry/internal/storage/storagetest"
)

// An unreliable store passes requests on to an object store. Some it refuses with 503, of some it
// cuts the answer although the store has done them, and of some it cuts the request.
type unreliable struct {
	mu     sync.Mutex
	random *rand.Rand
	next   http.Handler
	burst  int // of requests that are refused
	calm   bool
}

func (u *unreliable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	fate, calm := u.random.IntN(12), u.calm
	if u.random.IntN(150) == 0 {
		u.burst = 1 + u.random.IntN(16) // more than the client tries
	}
	if u.burst > 0 {
		u.burst--
		fate = 0
	}
	u.mu.Unlock()
	switch {
	case calm:
	case fate == 0:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code></Error>`)
		return
	case fate == 1:
		u.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case fate == 2 && r.Method == http.MethodGet:
		u.next.ServeHTTP(&cutWriter{w, 1000}, r)
		return
	case fate == 3:
		panic(http.ErrAbortHandler)
	}
	u.next.ServeHTTP(w, r)
}

// A cutWriter ends the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// unreliableStore returns a store over an unreliable connection.
func unreliableStore(t *testing.T, dir string, seed uint64) (*s3.Store, *unreliable) {
	t.Helper()
	server := s3test.Serve(t, dir)
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// The Host header is signed, and stays as it is.
	u := &unreliable{random: rand.New(rand.NewPCG(seed, 0)), next: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	front := httptest.NewServer(u)
	t.Cleanup(front.Close)
	o := server.Options("")
	o.Endpoint = front.URL
	store, err := s3.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return store, u
}

// TestUnreliableStoreLosesNoAcknowledgedPush pushes blobs in pieces, each time to a process that has
// just started, until each is acknowledged, and reads them.
func TestUnreliableStoreLosesNoAcknowledgedPush(t *testing.T) {
	f := newFixture(t)
	db := storagetest.Database(t)
	store, network := unreliableStore(t, f.dir, 1)
	ctx := t.Context()
	refused := 0
	open := func() { f.openOn(t, db, store) }
	var acknowledged [][]byte
	for n := range 6 {
		content := make([]byte, []int{3, 100 << 10, 1<<20 + 1, 9 << 20, 17<<20 + 5, 6 << 20}[n])
		rand.NewChaCha8([32]byte{byte(n)}).Read(content)
		id := ""
		for done := false; !done; {
			open()
			var u *storage.Upload
			var err error
			if id == "" {
				u, err = f.StartUpload(ctx, "a")
			} else {
				u, err = f.ResumeUpload(ctx, "a", id)
			}
			if errors.Is(err, oci.ErrBlobUploadUnknown) {
				t.Fatalf("upload %d is lost: %v", n, err)
			}
			if err == nil {
				id = u.ID()
				rest := content[u.Size():]
				_, err = u.Append(ctx, bytes.NewReader(rest[:min(len(rest), 5<<20)]))
				if err == nil && u.Size() == int64(len(content)) {
					err = u.Commit(ctx, digest.FromBytes(content))
					done = err == nil
				} else if closeErr := u.Close(); err == nil {
					err = closeErr
				}
			}
			if err != nil {
				refused++
				if !errors.Is(err, oci.ErrUnavailable) {
					t.Errorf("upload %d: %v is no outage", n, err)
				}
			}
		}
		acknowledged = append(acknowledged, content)
		for i, content := range acknowledged { // over the unreliable connection
			if got := f.content(t, "a", digest.FromBytes(content)); got != string(content) {
				t.Fatalf("blob %d has other bytes", i)
			}
		}
	}
	t.Logf("%d attempts were refused", refused)
	network.mu.Lock()
	network.calm = true
	network.mu.Unlock()
	f.now = f.now.Add(storage.OrphanAge + 48*3600e9)
	open()
	for range 2 {
		if _, err := f.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(storage.OrphanAge + 3600e9)
	}
	left := func(id string, _ int64) error { return errors.New(id + " is left") }
	if err := store.WalkPartials(ctx, left); err != nil {
		t.Error(err)
	}
}
