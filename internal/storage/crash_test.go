//go:build s3

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob/s3/s3test"
	"ferry/internal/storage/storagetest"
)

// A fate is what happens at one request of a process to its object store.
type fate string

const (
	killedBefore fate = "KilledBefore" // the process ends before it makes the request
	killedAfter  fate = "KilledAfter"  // the process ends before it gets the answer
	cutBefore    fate = "CutBefore"    // the connection ends before the request
	cutAfter     fate = "CutAfter"     // the connection ends before the answer
	refused      fate = "Refused"      // the store refuses this request and all that follow
)

func (f fate) isKill() bool { return f == killedBefore || f == killedAfter }

// A breaker is the connection of one process to its object store, which breaks at one request. After
// a kill no request of the process returns, and so nothing of it goes on.
type breaker struct {
	http.RoundTripper
	fate fate

	mu      sync.Mutex
	left    int           // requests until the fate
	running int           // requests that were made before it
	struck  bool          // the fate has happened
	dead    chan struct{} // closed once the process is killed, and running is 0
}

// errCut is the end of a connection.
var errCut = errors.New("the test cut the connection")

// RoundTrip implements [http.RoundTripper].
func (b *breaker) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.left--
	isNow := b.left == 0
	isAfter := b.left < 0
	b.struck = b.struck || isNow
	b.running++
	b.mu.Unlock()
	switch {
	case isAfter && b.fate.isKill(), isNow && b.fate == killedBefore:
		b.end()
		select {}
	case isNow && b.fate == cutBefore:
		b.end()
		return nil, errCut
	case (isNow || isAfter) && b.fate == refused:
		b.end()
		return &http.Response{
			StatusCode: http.StatusForbidden, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Body: io.NopCloser(strings.NewReader("<Error><Code>AccessDenied</Code></Error>")), Header: http.Header{},
		}, nil
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil || !isNow {
		b.end()
		return resp, err
	}
	resp.Body.Close()
	b.end()
	if b.fate == killedAfter {
		select {}
	}
	return nil, errCut
}

func (b *breaker) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running--; b.running == 0 && b.struck && b.fate.isKill() {
		select {
		case <-b.dead:
		default:
			close(b.dead)
		}
	}
}

func (b *breaker) hasStruck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.struck
}

// A bucket is a part of an object store.
type bucket struct {
	*s3test.Server
	prefix string
}

// A client makes requests, and repeats those that were not acknowledged.
type client interface {
	// prepare runs before anything breaks.
	prepare(t *testing.T, f *fixture, blobs bucket)
	// run does what is left. It fails if anything that was acknowledged is lost.
	run(ctx context.Context, s *storage.Storage) error
	// blobs are the contents that the client needs in repository a.
	blobs() [][]byte
}

// TestStoreBreaksAtEachRequest breaks the connection to the object store, or ends the process, at each
// request of each operation. Another process, or the same one after an outage, then goes on: what was
// acknowledged is there, the operation succeeds, and a collection finds all that is not needed.
func TestStoreBreaksAtEachRequest(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, start := range map[string]func() client{
		"Upload":   func() client { return &uploader{content: randomBytes(1, 5<<20+100<<10)} },
		"Transfer": func() client { return &fetcher{content: randomBytes(2, 2<<20)} },
		"Revival":  func() client { return &fetcher{content: randomBytes(3, 1<<20+1), unrecorded: true} },
		"Again":    func() client { return &repeater{content: randomBytes(4, 1<<20+1)} },
		"Small":    func() client { return &putter{contents: [][]byte{{}, []byte("x"), randomBytes(5, 1<<20+1)}} },
		"Delete":   func() client { return &deleter{content: randomBytes(6, 1<<20+1)} },
		"Discard":  func() client { return &canceller{content: randomBytes(7, 1<<20+1)} },
	} {
		for _, fate := range []fate{killedBefore, killedAfter, cutBefore, cutAfter, refused} {
			t.Run(name+"/"+string(fate), func(t *testing.T) {
				t.Parallel()
				n := 0
				for more := true; more && !t.Failed(); {
					n++
					t.Run(fmt.Sprint(n), func(t *testing.T) { more = breakAt(t, server, start(), fate, n) })
				}
				t.Logf("%d requests", n-1)
			})
		}
	}
}

func randomBytes(seed byte, size int) []byte {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return content
}

// breakAt runs a client whose n-th request to the object store breaks. It returns false if there is
// no such request.
func breakAt(t *testing.T, server *s3test.Server, c client, fate fate, n int) bool {
	f, db := newFixture(t), storagetest.Database(t)
	at := bucket{server, strings.ToLower(t.Name())}
	f.step = time.Since(epoch)
	f.openOn(t, db, server.Store(t, at.prefix))
	c.prepare(t, f, at)
	b := &breaker{fate: fate, left: n, dead: make(chan struct{})}
	o := server.Options(at.prefix)
	o.Wrap = func(next http.RoundTripper) http.RoundTripper { b.RoundTripper = next; return b }
	f.openOn(t, db, s3test.New(t, o))
	ended := make(chan error, 1)
	go func(s *storage.Storage) { ended <- c.run(context.Background(), s) }(f.Storage)
	select {
	case err := <-ended:
		if struck := b.hasStruck(); err != nil && !(struck && fate == refused && errors.Is(err, oci.ErrUnavailable)) {
			t.Errorf("request %d: %v", n, err)
		}
	case <-b.dead:
	}
	f.openOn(t, db, server.Store(t, at.prefix))
	if err := c.run(t.Context(), f.Storage); err != nil {
		t.Errorf("after request %d: %v", n, err)
	}
	checkStore(t, at, f, c.blobs())
	return b.hasStruck()
}

// checkStore checks that the storage has the contents whole, and that after collections the object
// store has nothing else.
func checkStore(t *testing.T, at bucket, f *fixture, contents [][]byte) {
	t.Helper()
	var want []string
	for i, content := range contents {
		d := digest.FromBytes(content)
		want = append(want, "blobs/sha256/"+d.Encoded())
		if got := f.content(t, "a", d); got != string(content) {
			t.Errorf("blob %d has %d other bytes", i, len(got))
		}
		put := storage.Put{Repository: "a", Payload: image(d, d), Tags: []string{fmt.Sprint("v", i)}}
		if _, err := f.PutManifest(t.Context(), put); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := f.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(storage.OrphanAge + 48*time.Hour)
	}
	if _, err := f.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, at.Objects(t, at.prefix)); diff != "" {
		t.Errorf("the object store: %s", diff)
	}
	for i, content := range contents {
		if got := f.content(t, "a", digest.FromBytes(content)); got != string(content) {
			t.Errorf("after the collections, blob %d has %d other bytes", i, len(got))
		}
	}
}

// An uploader pushes a blob in three requests.
type uploader struct {
	content []byte
	id      string
	sent    int64 // acknowledged
	ending  bool  // the last request was made
	done    bool
}

func (c *uploader) prepare(*testing.T, *fixture, bucket) {}

func (c *uploader) blobs() [][]byte { return [][]byte{c.content} }

func (c *uploader) run(ctx context.Context, s *storage.Storage) error {
	if c.id == "" {
		u, err := s.StartUpload(ctx, "a")
		if err != nil {
			return err
		}
		c.id = u.ID()
		if err := u.Close(); err != nil {
			return err
		}
	}
	for _, end := range []int64{300 << 10, 5 << 20, int64(len(c.content))} {
		if c.sent < end {
			if err := c.append(ctx, s, end); err != nil {
				return err
			}
		}
	}
	if c.done {
		return nil
	}
	u, err := s.ResumeUpload(ctx, "a", c.id)
	if c.ending && errors.Is(err, oci.ErrBlobUploadUnknown) {
		c.done = true // it was committed
		return nil
	}
	if err != nil {
		return err
	}
	if u.Size() != int64(len(c.content)) {
		u.Close()
		return fmt.Errorf("the upload has %d bytes", u.Size())
	}
	c.ending = true
	if err = u.Commit(ctx, digest.FromBytes(c.content)); err == nil {
		c.done = true
	}
	return err
}

func (c *uploader) append(ctx context.Context, s *storage.Storage, end int64) error {
	u, err := s.ResumeUpload(ctx, "a", c.id)
	if err != nil {
		return err
	}
	if u.Size() < c.sent {
		return fmt.Errorf("of %d acknowledged bytes, %d are there", c.sent, u.Size())
	}
	if u.Size() < end {
		_, err = u.Append(ctx, bytes.NewReader(c.content[u.Size():end]))
	}
	size := u.Size()
	if err = errors.Join(err, u.Close()); err == nil {
		c.sent = size
	}
	return err
}

// A fetcher writes a transfer in ranges out of order.
type fetcher struct {
	content    []byte
	unrecorded bool // the blob is there without a row
	written    int64
	ended      bool // the commit was begun
}

func (c *fetcher) prepare(t *testing.T, _ *fixture, at bucket) {
	if !c.unrecorded {
		return
	}
	blobs := at.Store(t, at.prefix)
	p, err := blobs.Partial(t.Context(), "crashed")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.WriteAt(c.content, 0)
	err = errors.Join(err, p.Close(), blobs.Commit(t.Context(), "crashed", digest.FromBytes(c.content)),
		blobs.Discard(t.Context(), "crashed"))
	if err != nil {
		t.Fatal(err)
	}
	c.written = int64(len(c.content))
}

func (c *fetcher) blobs() [][]byte { return [][]byte{c.content} }

func (c *fetcher) run(ctx context.Context, s *storage.Storage) error {
	d := digest.FromBytes(c.content)
	switch _, err := s.StatBlob(ctx, "a", d); {
	case err == nil && !c.ended:
		return errors.New("the blob is visible before its commit")
	case err == nil || !errors.Is(err, oci.ErrBlobUnknown):
		return err
	}
	t, err := s.Transfer(ctx, d, int64(len(c.content)))
	if err != nil {
		return err
	}
	if have := t.Have(); have < c.written-storage.MaxLoss {
		return fmt.Errorf("of %d bytes, %d are there", c.written, have)
	}
	c.written = t.Have()
	gaps := t.Missing()
	for first := range int64(2) {
		const step = 300 << 10
		for _, gap := range gaps {
			for at := gap.Start + first*step; at < gap.End; at += 2 * step {
				n, err := t.Write(ctx, c.content[at:min(at+step, gap.End)], at)
				if err != nil {
					return errors.Join(err, t.Close())
				}
				c.written += n
			}
		}
	}
	c.ended = true
	return errors.Join(t.Commit(ctx, "a"), t.Close())
}

// A repeater pushes a blob that is there, and is damaged.
type repeater struct{ content []byte }

func (c *repeater) blobs() [][]byte { return [][]byte{c.content} }

func (c *repeater) prepare(t *testing.T, f *fixture, at bucket) {
	d := f.push(t, "a", c.content)
	damaged := bytes.NewReader(make([]byte, len(c.content)))
	key := at.prefix + "/blobs/sha256/" + d.Encoded()
	if _, err := at.Client().PutObject(t.Context(), at.Bucket, key, damaged, damaged.Size(),
		minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *repeater) run(ctx context.Context, s *storage.Storage) error {
	u, err := s.StartUpload(ctx, "a")
	if err != nil {
		return err
	}
	if _, err := u.Append(ctx, bytes.NewReader(c.content)); err != nil {
		return errors.Join(err, u.Close())
	}
	return u.Commit(ctx, digest.FromBytes(c.content))
}

// A putter stores small blobs together.
type putter struct{ contents [][]byte }

func (c *putter) prepare(*testing.T, *fixture, bucket) {}

func (c *putter) blobs() [][]byte { return c.contents }

func (c *putter) run(ctx context.Context, s *storage.Storage) error {
	var all []storage.SmallBlob
	for _, content := range c.contents {
		all = append(all, storage.SmallBlob{Repository: "a", Digest: digest.FromBytes(content), Data: content})
	}
	return s.PutBlobs(ctx, all...)
}

// A deleter deletes a blob, and collects it.
type deleter struct{ content []byte }

func (c *deleter) blobs() [][]byte { return nil }

func (c *deleter) prepare(t *testing.T, f *fixture, _ bucket) {
	f.push(t, "a", c.content)
	f.now = f.now.Add(2 * time.Hour)
}

func (c *deleter) run(ctx context.Context, s *storage.Storage) error {
	err := s.DeleteBlob(ctx, "a", digest.FromBytes(c.content))
	if errors.Is(err, oci.ErrBlobUnknown) {
		err = nil
	}
	if err == nil {
		_, err = s.Collect(ctx)
	}
	return err
}

// A canceller cancels an upload.
type canceller struct {
	content []byte
	id      string
}

func (c *canceller) blobs() [][]byte { return nil }

func (c *canceller) prepare(t *testing.T, f *fixture, _ bucket) {
	u, err := f.StartUpload(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	c.id = u.ID()
	if _, err := u.Append(t.Context(), bytes.NewReader(c.content)); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
}

func (c *canceller) run(ctx context.Context, s *storage.Storage) error {
	u, err := s.ResumeUpload(ctx, "a", c.id)
	if errors.Is(err, oci.ErrBlobUploadUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := u.Cancel(ctx); !errors.Is(err, oci.ErrBlobUploadUnknown) {
		return err
	}
	return nil
}
