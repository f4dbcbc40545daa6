package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/faultnet"
	"ferry/internal/registry"
	"ferry/internal/server"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// A slowSource is another registry, with the image app:1 of one layer.
type slowSource struct {
	address string // without a scheme
	sent    atomic.Int64
	active  atomic.Int32 // requests for blobs
	rate    atomic.Int64 // of sending blobs, in bytes a second; 0 is no limit
}

type everybody struct{ registry.Authorizer }

func (everybody) Authorize(*http.Request, ...auth.Access) (auth.Grant, error) {
	return auth.Grant{}, nil
}

// newSlowSource returns a source whose layer has size bytes.
func newSlowSource(t *testing.T, size int) *slowSource {
	t.Helper()
	c := storagetest.New(t, storage.Options{})
	c.Push("app", c.Image("app", "config", bytes.Repeat([]byte("layer;"), size/6)), "1")
	r := registry.New(registry.Options{Storage: c.Storage, Authorizer: everybody{}, Log: slog.New(slog.DiscardHandler)})
	s := &slowSource{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/blobs/") {
			s.active.Add(1)
			defer s.active.Add(-1)
			w = &faultnet.SlowWriter{ResponseWriter: w, Context: req.Context(), Rate: s.rate.Load,
				Sent: func(n int) { s.sent.Add(int64(n)) }}
		}
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	s.address = strings.TrimPrefix(srv.URL, "http://")
	return s
}

// imported is the request for an import from the source.
func (s *slowSource) imported() string {
	return `{"source":"http://` + s.address + `/app:1","images":["copy:1"]}`
}

// await waits until the source has sent n bytes.
func (s *slowSource) await(t *testing.T, n int64) {
	t.Helper()
	eventually(t, func() bool { return s.sent.Load() >= n })
}

// eventually waits for up to a minute until ok is true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick, timeout := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("it takes more than a minute")
		}
	}
}

// importAt returns an import as a process shows it, after a request.
func importAt(t *testing.T, m *member, password, method, path, body string) (i api.Import) {
	t.Helper()
	status, text, _ := m.call(t, password, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestImportMovesToAnotherProcess(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	const size = 1 << 20
	s := newShared(t)
	a, b := s.start(t), s.start(t) // a is the leader
	source := newSlowSource(t, size)
	source.rate.Store(64 << 10)
	i := importAt(t, b, a.password, "POST", "/api/v1/imports", source.imported())
	path := "/api/v1/imports/" + i.Name
	source.await(t, size/4)
	source.rate.Store(4 << 10)  // the rest takes longer than the first process lives
	eventually(t, func() bool { // b shows the progress at a
		return importAt(t, b, a.password, "GET", path, "").BytesDone > 0
	})
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	fetched := source.sent.Load()
	if i = importAt(t, b, a.password, "GET", path, ""); i.State != "Running" {
		t.Errorf("between two processes it is %+v", i)
	}
	source.rate.Store(0)
	eventually(t, func() bool {
		i = importAt(t, b, a.password, "GET", path, "")
		return i.EndTime != nil
	})
	if i.State != "Succeeded" {
		t.Errorf("%+v", i)
	}
	if status, _, _ := b.call(t, a.password, "GET", "/v2/copy/manifests/1", ""); status != http.StatusOK {
		t.Errorf("the image: %d", status)
	}
	// What was on its way when a ended is fetched again.
	if all := source.sent.Load(); all > size+size/4 {
		t.Errorf("%d bytes were sent, %d of them to the first process, of a layer of %d", all, fetched, size)
	}
}

func TestImportIsCancelledAtAnyProcess(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	const size = 1 << 20
	s := newShared(t)
	a, b := s.start(t), s.start(t)
	source := newSlowSource(t, size)
	source.rate.Store(16 << 10)
	i := importAt(t, a, a.password, "POST", "/api/v1/imports", source.imported())
	source.await(t, 1000)
	path := "/api/v1/imports/" + i.Name
	for _, m := range []*member{b, a} {
		if i = importAt(t, m, a.password, "POST", path+"/cancel", ""); i.State != "Cancelled" {
			t.Errorf("%+v", i)
		}
	}
	eventually(t, func() bool { return source.active.Load() == 0 }) // nothing is fetched any more
	if all := source.sent.Load(); all >= size {
		t.Errorf("%d bytes were sent", all)
	}
	if status, _, _ := b.call(t, a.password, "GET", "/v2/copy/manifests/1", ""); status != http.StatusNotFound {
		t.Errorf("the image: %d", status)
	}
}

func TestImportContinuesAfterARestart(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	source := newSlowSource(t, size)
	source.rate.Store(64 << 10)
	cfg := configIn(t.TempDir())
	run := func() *member { return startMember(t, cfg, server.Options{}) }
	m := run()
	password := m.password
	path := "/api/v1/imports/" + importAt(t, m, password, "POST", "/api/v1/imports", source.imported()).Name
	source.await(t, size/4)
	if err := m.stop(); err != nil {
		t.Error(err)
	}
	source.rate.Store(0)
	m = run()
	var i api.Import
	eventually(t, func() bool {
		i = importAt(t, m, password, "GET", path, "")
		return i.EndTime != nil
	})
	if all := source.sent.Load(); i.State != "Succeeded" || all > size+size/4 {
		t.Errorf("%d bytes were sent of a layer of %d, and the import is %+v", all, size, i)
	}
}
