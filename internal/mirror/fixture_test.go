package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/faultnet"
	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/registry"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// A content is the content of a registry, of the upstream or of the instance.
type content struct {
	storagetest.Content
}

func newContent(t *testing.T) content {
	t.Helper()
	return content{storagetest.New(t, storage.Options{})}
}

// image pushes an image with a layer of size bytes, which follow from seed.
func (c content) image(repository, seed string, size int, tags ...string) digest.Digest {
	c.T.Helper()
	return c.Push(repository, c.manifest(repository, seed, size), tags...).Digest
}

// manifest pushes an image's blobs, and returns the image.
func (c content) manifest(repository, seed string, size int) storagetest.Manifest {
	c.T.Helper()
	layer := bytes.Repeat([]byte(seed+";"), size/(len(seed)+1)+1)[:size]
	return c.Image(repository, "config "+seed, layer)
}

// referrer pushes a manifest whose subject is d, without a tag.
func (c content) referrer(repository, seed string, d digest.Digest) digest.Digest {
	c.T.Helper()
	m := c.manifest(repository, seed, 10)
	m.Subject = new(storagetest.Reference(d))
	return c.Push(repository, m).Digest
}

// index pushes an index of manifests that are there.
func (c content) index(repository string, children []digest.Digest, tags ...string) digest.Digest {
	c.T.Helper()
	index := storagetest.Index()
	for _, d := range children {
		m, err := c.Manifest(c.T.Context(), repository, string(d))
		if err != nil {
			c.T.Fatal(err)
		}
		index.Manifests = append(index.Manifests, oci.Descriptor{MediaType: m.MediaType, Digest: d, Size: m.Size})
	}
	return c.Push(repository, index, tags...).Digest
}

// tags are the repository's, as "TAG DIGEST".
func (c content) tags(repository string) map[string]digest.Digest {
	c.T.Helper()
	all, err := c.Tags(c.T.Context(), repository, storage.TagOrder{}, "", 1000)
	if e := oci.AsError(err); err != nil && (e == nil || e.Status != http.StatusNotFound) {
		c.T.Fatal(err)
	}
	tags := map[string]digest.Digest{}
	for _, tag := range all {
		tags[tag.Name] = tag.Digest
	}
	return tags
}

func (c content) has(repository string, d digest.Digest) bool {
	c.T.Helper()
	has, err := c.HasManifest(c.T.Context(), repository, d)
	if err != nil {
		c.T.Fatal(err)
	}
	return has
}

// An upstream is a registry that nobody here runs.
type upstream struct {
	content
	pipe *faultnet.Pipe

	mu     sync.Mutex
	counts map[string]int // requests: "HEAD manifests"
	sent   int            // bytes of blobs
	rate   int64          // bytes of a blob a second; 0 is no limit
	before func(w http.ResponseWriter, r *http.Request) (done bool)
}

type anyone struct{}

func (anyone) Authorize(*http.Request, ...auth.Access) (auth.Grant, error) { return auth.Grant{}, nil }

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{content: newContent(t), pipe: faultnet.NewPipe(), counts: map[string]int{}}
	r := registry.New(registry.Options{Storage: u.Storage, Authorizer: anyone{}, Log: slog.New(slog.DiscardHandler)})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		parts := strings.Split(req.URL.Path, "/")
		u.mu.Lock()
		u.counts[req.Method+" "+parts[len(parts)-2]]++
		before := u.before
		u.mu.Unlock()
		if before != nil && before(w, req) {
			return
		}
		if strings.Contains(req.URL.Path, "/blobs/") {
			w = &faultnet.SlowWriter{ResponseWriter: w, Context: req.Context(), Rate: u.blobRate,
				Sent: func(n int) { u.set(func() { u.sent += n }) }}
		}
		r.ServeHTTP(w, req)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(u.pipe)
	}()
	t.Cleanup(func() {
		srv.Close()
		u.pipe.Close()
		<-served
	})
	return u
}

// asked returns how often something was asked for, and forgets it.
func (u *upstream) asked(what string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.counts[what]
	u.counts[what] = 0
	return n
}

func (u *upstream) blobRate() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rate
}

func (u *upstream) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
}

// A here is an instance that follows an upstream.
type here struct {
	content
	*mirror.Service
	upstream *upstream
}

// newHere returns an instance whose service runs until the test ends.
func newHere(t *testing.T) *here {
	t.Helper()
	h := stoppedHere(t)
	h.start(t)
	return h
}

func stoppedHere(t *testing.T) *here {
	t.Helper()
	h := &here{content: newContent(t), upstream: newUpstream(t)}
	h.service(t)
	return h
}

// service makes the service anew, as a restart does.
func (h *here) service(t *testing.T) {
	t.Helper()
	h.dialing(t, h.upstream.pipe.Dial)
}

// dialing makes the service anew, with another way to reach registries.
func (h *here) dialing(t *testing.T, dial mirror.Dial) {
	t.Helper()
	key, err := mirror.OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h.Service = mirror.New(mirror.Options{
		DB: h.content.DB, Storage: h.content.Storage, Key: key, Connections: 4, Dial: dial,
	})
}

// start lets the service run, and returns what stops it.
func (h *here) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func(s *mirror.Service) {
		defer close(done)
		s.Run(ctx)
	}(h.Service)
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// rule makes a rule, or changes it, as the management API does.
func (h *here) rule(v mirror.Spec) {
	h.content.T.Helper()
	if v.Source == "" {
		v.Source = "http://upstream.example/app"
	}
	if v.Repository == "" {
		v.Repository = "local/app"
	}
	if v.Schedule == "" {
		v.Schedule = "0 0 * * *"
	}
	if err := v.Check(); err != nil {
		h.content.T.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		h.content.T.Fatal(err)
	}
	h.update(func(tx *metadb.Tx) error {
		err := tx.PutMirrorRule(metadb.MirrorRule{Name: "r", Spec: text, Repository: v.Repository,
			CreatedAt: time.Now()})
		if err != nil || v.Window != "" {
			return err
		}
		return tx.AskMirrorRule("r", time.Now())
	})
	h.Changed("r")
}

// ask asks for a run and waits until one is over.
func (h *here) ask() metadb.MirrorRule {
	h.content.T.Helper()
	time.Sleep(time.Millisecond) // the clock's grain in the database
	asked := time.Now()
	h.update(func(tx *metadb.Tx) error { return tx.AskMirrorRule("r", asked) })
	h.Wake()
	return h.await(asked)
}

// await waits until a run that began at or after the given time is over.
func (h *here) await(since time.Time) (row metadb.MirrorRule) {
	h.content.T.Helper()
	for range 10_000 {
		h.update(func(tx *metadb.Tx) (err error) {
			row, err = tx.MirrorRule("r")
			return err
		})
		if !row.StartedAt.IsZero() && !row.StartedAt.Before(since.Truncate(time.Millisecond)) &&
			!row.EndedAt.Before(row.StartedAt) && !h.Status("r").Running {
			return row
		}
		time.Sleep(time.Second)
	}
	h.content.T.Fatalf("no run since %s is over: %+v, %+v", since, row, h.Status("r"))
	return row
}

func (h *here) update(fn func(*metadb.Tx) error) {
	h.content.T.Helper()
	if err := h.content.DB.Update(h.content.T.Context(), fn); err != nil {
		h.content.T.Fatal(err)
	}
}
