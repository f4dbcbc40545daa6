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

// A content is the content of the upstream or of the instance.
type content struct {
	storagetest.Content
}

func newContent(t *testing.T) content {
	t.Helper()
	return content{storagetest.New(t, storage.Options{})}
}

// image pushes an image with a layer of size bytes that depend on seed.
func (c content) image(repository, seed string, size int, tags ...string) digest.Digest {
	c.T.Helper()
	return c.Push(repository, c.manifest(repository, seed, size), tags...).Digest
}

// manifest pushes the blobs of an image, and returns its manifest.
func (c content) manifest(repository, seed string, size int) storagetest.Manifest {
	c.T.Helper()
	layer := bytes.Repeat([]byte(seed+";"), size/(len(seed)+1)+1)[:size]
	return c.Image(repository, "config "+seed, layer)
}

// referrer pushes an untagged manifest with the subject d.
func (c content) referrer(repository, seed string, d digest.Digest) digest.Digest {
	c.T.Helper()
	m := c.manifest(repository, seed, 10)
	m.Subject = new(storagetest.Reference(d))
	return c.Push(repository, m).Digest
}

// index pushes an index of existing manifests.
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

// tags returns the digests of the repository's tags.
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

// An upstream is the source registry of a test.
type upstream struct {
	content
	pipe *faultnet.Pipe

	mu     sync.Mutex
	counts map[string]int // requests by method and kind, such as "HEAD manifests"
	sent   int            // bytes of blobs sent
	rate   int64          // of sending blobs, in bytes a second; 0 is no limit
	before func(w http.ResponseWriter, r *http.Request) (done bool)
}

type anyone struct{ registry.Authorizer }

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

// requestCount returns how many such requests came since the last call.
func (u *upstream) requestCount(request string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.counts[request]
	u.counts[request] = 0
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

// An instance is the registry under test, which mirrors an upstream.
type instance struct {
	content
	*mirror.Service
	upstream *upstream
	key      *mirror.Key
}

// newInstance returns an instance. Its service runs until the test ends.
func newInstance(t *testing.T) *instance {
	t.Helper()
	h := newStoppedInstance(t)
	h.start(t)
	return h
}

func newStoppedInstance(t *testing.T) *instance {
	t.Helper()
	key, err := mirror.OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := &instance{content: newContent(t), upstream: newUpstream(t), key: key}
	h.newService(t)
	return h
}

// newService replaces the service, as a restart does.
func (h *instance) newService(t *testing.T) {
	t.Helper()
	h.newServiceWith(t, h.upstream.pipe.Dial)
}

// newServiceWith replaces the service by one that dials with dial.
func (h *instance) newServiceWith(t *testing.T, dial mirror.Dial) {
	t.Helper()
	h.Service = mirror.New(mirror.Options{
		DB: h.content.DB, Storage: h.content.Storage, Key: h.key, Connections: 4, Dial: dial,
		Audit: func(actor, sender, action, object, detail string) func(*metadb.Tx) error {
			return func(tx *metadb.Tx) error {
				return tx.AddAudit(metadb.AuditEntry{
					At: time.Now(), Actor: actor, Sender: sender, Action: action, Object: object, Detail: detail,
				}, 1000)
			}
		},
	})
}

// start starts the service, and returns a function that stops it.
func (h *instance) start(t *testing.T) (stop func()) {
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

// rule creates or changes the rule "r", as the management API does.
func (h *instance) rule(v mirror.Spec) {
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
		return tx.RequestMirrorRun("r", time.Now())
	})
	h.Changed("r")
}

// runRule requests a run of the rule, and waits until it has ended.
func (h *instance) runRule() metadb.MirrorRule {
	h.content.T.Helper()
	time.Sleep(time.Millisecond) // the resolution of times in the database
	asked := time.Now()
	h.update(func(tx *metadb.Tx) error { return tx.RequestMirrorRun("r", asked) })
	h.Wake()
	return h.awaitRun(asked)
}

// awaitRun waits until a run that began at or after the given time has ended.
func (h *instance) awaitRun(since time.Time) (row metadb.MirrorRule) {
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

func (h *instance) update(fn func(*metadb.Tx) error) {
	h.content.T.Helper()
	if err := h.content.DB.Update(h.content.T.Context(), fn); err != nil {
		h.content.T.Fatal(err)
	}
}
