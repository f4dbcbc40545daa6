package download_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"ferry/internal/download"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A memorySource has blobs in memory. Its requests fail with the errors of fail.
type memorySource struct {
	blobs map[digest.Digest][]byte

	mu   sync.Mutex
	sent int64
	fail func(repository string, d digest.Digest, offset int64) error // nil never fails
}

func (s *memorySource) Blob(
	_ context.Context, repository string, d digest.Digest, offset, length int64,
) (io.ReadCloser, int64, error) {
	if s.fail != nil {
		if err := s.fail(repository, d, offset); err != nil {
			return nil, 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	content := s.blobs[d][offset : offset+length]
	s.sent += length
	return io.NopCloser(bytes.NewReader(content)), offset, nil
}

func (s *memorySource) put(seed uint64, size int) digest.Digest {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(content)
	d := digest.FromBytes(content)
	s.blobs[d] = content
	return d
}

func newDownloader(t *testing.T) (*download.Downloader, *storage.Storage) {
	t.Helper()
	s := storagetest.New(t, storage.Options{}).Storage
	return download.New(download.Options{Storage: s, ChunkSize: 64 << 10, Connections: 4}), s
}

// fetch runs a session that downloads blobs, and returns the final error of each.
func fetch(t *testing.T, d *download.Downloader, src download.Source, blobs ...*download.Blob) map[digest.Digest]error {
	t.Helper()
	d.StartSession(src)
	d.Add(blobs...)
	d.ExpectMore(false)
	ctx, stop := context.WithCancel(t.Context())
	done, results := make(chan error, 1), make(chan download.Result)
	go func() { done <- d.Run(ctx, results) }()
	errs := map[digest.Digest]error{}
	for len(errs) < len(blobs) {
		select {
		case r := <-results:
			if !r.Deferred {
				errs[r.Blob.Digest] = r.Err
			}
		case <-time.After(time.Hour):
			t.Fatal("a blob has no result after an hour")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return errs
}

func TestBlobsAreFetchedCompletelyAndOnce(t *testing.T) {
	s := &memorySource{blobs: map[digest.Digest][]byte{}}
	d, st := newDownloader(t)
	var blobs []*download.Blob
	var total int64
	for i, size := range []int{0, 1, 64 << 10, 1<<20 + 7} {
		blob := s.put(uint64(i), size)
		blobs = append(blobs, &download.Blob{Digest: blob, Size: int64(size), Repositories: []string{"a", "b"}})
		total += int64(size)
	}
	for blob, err := range fetch(t, d, s, blobs...) {
		if err != nil {
			t.Errorf("%s: %v", blob, err)
		}
		for _, repository := range []string{"a", "b"} {
			if _, err := st.StatBlob(t.Context(), repository, blob); err != nil {
				t.Errorf("%s in %s: %v", blob, repository, err)
			}
		}
	}
	if p := d.Progress(); s.sent != total || p.Received != total || p.BytesDone != total || p.BytesTotal != total {
		t.Errorf("%d bytes were sent, want %d; progress %+v", s.sent, total, p)
	}
}

func TestBlobIsFetchedFromTheRepositoryThatHasIt(t *testing.T) {
	s := &memorySource{blobs: map[digest.Digest][]byte{}}
	blob := s.put(1, 300<<10)
	s.fail = func(repository string, _ digest.Digest, _ int64) error {
		if repository == "a" {
			return oci.ErrBlobUnknown
		}
		return nil
	}
	d, _ := newDownloader(t)
	b := &download.Blob{Digest: blob, Size: 300 << 10, Repositories: []string{"a", "b"}}
	if err := fetch(t, d, s, b)[blob]; err != nil {
		t.Error(err)
	}
}

// The bad blob is deferred first. It fails when it keeps failing while the good one is
// fetched.
func TestBlobFailsIfOnlyItKeepsFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &memorySource{blobs: map[digest.Digest][]byte{}}
		bad, good := s.put(1, 100<<10), s.put(2, 20<<20)
		cut := errors.New("connection reset by peer")
		s.fail = func(_ string, d digest.Digest, _ int64) error {
			if d == bad {
				return cut
			}
			time.Sleep(20 * time.Second)
			return nil
		}
		d, _ := newDownloader(t)
		errs := fetch(t, d, s,
			&download.Blob{Digest: bad, Size: 100 << 10, Repositories: []string{"a"}},
			&download.Blob{Digest: good, Size: 20 << 20, Repositories: []string{"a"}})
		if !errors.Is(errs[bad], cut) || errs[good] != nil {
			t.Errorf("errors are %v, want only one for the bad blob", errs)
		}
	})
}
