package replication_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// A smallDisk is a blob store on a disk with little space.
type smallDisk struct {
	blob.Store
	dir       string // of the database
	hidesFree bool   // the free space is unknown
	log       string // file of the database's log, which takes space, too; "" is none

	mu         sync.Mutex
	free       int64            // in bytes
	alwaysFits int64            // a partial of at most so many bytes always fits
	sizes      map[string]int64 // of partials, by id
}

func (s *smallDisk) setFree(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = n
}

func (s *smallDisk) Free(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hidesFree {
		return math.MaxInt64, nil
	}
	log, err := os.Stat(s.log)
	if err != nil {
		return s.free, nil
	}
	return s.free - log.Size(), nil
}

// reserve takes n bytes for a partial, or gives them back if n is negative.
func (s *smallDisk) reserve(id string, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.free && s.sizes[id]+n > s.alwaysFits {
		return syscall.ENOSPC
	}
	s.free -= n
	s.sizes[id] += n
	return nil
}

func (s *smallDisk) partialSize(id string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizes[id]
}

func (s *smallDisk) Discard(ctx context.Context, id string) error {
	s.reserve(id, -s.partialSize(id))
	return s.Store.Discard(ctx, id)
}

func (s *smallDisk) Commit(ctx context.Context, id string, d digest.Digest) error {
	err := s.Store.Commit(ctx, id, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.sizes, id)
	}
	return err
}

func (s *smallDisk) Partial(ctx context.Context, id string) (blob.Partial, error) {
	p, err := s.Store.Partial(ctx, id)
	return smallPartial{p, s, id}, err
}

type smallPartial struct {
	blob.Partial
	disk *smallDisk
	id   string
}

func (p smallPartial) WriteAt(b []byte, offset int64) (int, error) {
	if err := p.disk.reserve(p.id, int64(len(b))); err != nil {
		return 0, err
	}
	return p.Partial.WriteAt(b, offset)
}

// onSmallDisk returns a replica of p on a disk with free bytes for syncs.
func onSmallDisk(t *testing.T, p *parent, free int64) (*replica, *smallDisk) {
	t.Helper()
	dir := t.TempDir()
	disk := &smallDisk{Store: storagetest.Files(t, dir), dir: dir, free: free + reserveLeft, sizes: map[string]int64{}}
	s, db, err := storagetest.Open(t.Context(), dir, storage.Options{Blobs: disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	engine := replication.New(replication.Options{Storage: s, DB: db, Connections: 4})
	return &replica{Storage: s, Engine: engine, db: db, source: p.client(), t: t}, disk
}

// reserveLeft is the space that syncs leave to others.
const reserveLeft = 2 << 20

// images pushes images of the sizes, in MiB.
func (p *parent) images(sizes ...int) {
	for i, size := range sizes {
		p.image("app", [][]byte{randomBytes(uint64(100+i), size<<20)}, fmt.Sprintf("v%02d", i))
	}
}

func TestSmallDiskGetsTheSmallestImagesThatFit(t *testing.T) {
	p := newParent(t)
	p.images(4, 1, 3, 2, 1, 5, 1, 2, 6, 1)
	r, disk := onSmallDisk(t, p, 9<<20+100<<10)
	r.follow()
	for range 2 { // the second Sync has the same result
		result, err := r.Sync(t.Context(), r.source)
		if err != nil || result.NoSpace != 4 || result.Failed != 4 {
			t.Fatalf("Sync = %+v, %v", result, err)
		}
		if missing := int64(18<<20 - 1<<20); result.MissingSpace < missing-200<<10 ||
			result.MissingSpace > missing+200<<10 {
			t.Errorf("MissingSpace = %d, want about %d", result.MissingSpace, missing)
		}
	}
	want := []string{"app:v01", "app:v03", "app:v04", "app:v06", "app:v07", "app:v09"}
	if diff := cmp.Diff(want, r.tags()); diff != "" {
		t.Error(diff)
	}
	if sent := p.blobs.Load(); sent > 9<<20 {
		t.Errorf("%d bytes were sent, although only 8 MiB fit", sent)
	}
	items := strings.Join(r.items(), "\n")
	for _, text := range []string{":v02 ", "the image needs 3.0 MiB more", "no space left on the registry's disk"} {
		if !strings.Contains(items, text) {
			t.Errorf("no item says %q:\n%s", text, items)
		}
	}
	disk.setFree(1 << 30)
	r.sync()
	assertInSync(t, p, r.Storage)
}

// The image fits only without SQLite's log.
func TestDatabaseLogGivesItsSpaceToImages(t *testing.T) {
	p := newParent(t)
	p.images(3)
	r, disk := onSmallDisk(t, p, 4<<20)
	r.follow()
	err := r.db.Update(t.Context(),
		func(tx *metadb.Tx) error { return tx.SetSetting("long", strings.Repeat("x", 3<<20)) })
	if err != nil {
		t.Fatal(err)
	}
	disk.log = filepath.Join(disk.dir, "ferry.db-wal")
	if log, err := os.Stat(disk.log); err != nil || log.Size() < 3<<20 {
		t.Fatalf("the log is %v, %v; want at least 3 MiB", log, err)
	}
	r.sync()
	assertInSync(t, p, r.Storage)
}

// The first plan has 32 images, two of them large. They fit, but their download has not
// started when the second plan needs the space for smaller images.
func TestSmallerImagesOfALaterPlanGetTheSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		const first, later = 32, 8
		for i := range first + later {
			size := 100 << 10
			switch {
			case i < 2:
				size = 6 << 20
			case i >= first:
				size = 1 << 20
			}
			p.image("app", [][]byte{randomBytes(uint64(100+i), size)}, fmt.Sprintf("v%02d", i))
		}
		r, _ := onSmallDisk(t, p, 17<<20)
		r.follow()
		planned := make(chan struct{})
		src := &blockedBlobSource{planSource{Source: r.source}, planned}
		var complete atomic.Int64
		src.edit = func(e replication.PlanEntry) (replication.PlanEntry, error) {
			if e.Complete != nil && complete.Add(1) == first+later {
				time.AfterFunc(time.Second, func() { close(planned) })
			}
			return e, nil
		}
		result, err := r.Sync(t.Context(), src)
		if err != nil || result.NoSpace != 1 || result.Synced != first+later-1 {
			t.Errorf("Sync = %+v, %v; want one image that does not fit", result, err)
		}
		if items := r.items(); !strings.Contains(items[0]+items[1], "the image needs 6.0 MiB more") {
			t.Errorf("items are %v; want one that needs 6.0 MiB more", items[:2])
		}
	})
}

// A blockedBlobSource sends no blob before a channel is closed.
type blockedBlobSource struct {
	planSource
	until <-chan struct{}
}

func (h *blockedBlobSource) Blob(ctx context.Context, repository string, d digest.Digest, offset,
	length int64) (io.ReadCloser, int64, error) {
	select {
	case <-h.until:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	return h.planSource.Blob(ctx, repository, d, offset, length)
}

// The disk becomes full after a sync was stopped in the middle of three layers.
func TestPartialLayersAreDiscardedForImagesThatFit(t *testing.T) {
	p := newParent(t)
	p.images(6, 4, 3, 3)
	r, disk := onSmallDisk(t, p, 40<<20)
	r.follow()
	for _, im := range []int{0, 1, 2} { // half of each layer is on disk
		layer := randomBytes(uint64(100+im), []int{6, 4, 3}[im]<<20)
		transfer, err := r.Transfer(t.Context(), digest.FromBytes(layer), int64(len(layer)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transfer.Write(t.Context(), layer[:len(layer)/2], 0); err != nil {
			t.Fatal(err)
		}
		if err := transfer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	disk.setFree(reserveLeft + 2<<20) // v02 lacks 1.5 MiB, v01 2, v00 and v03 3
	result, err := r.Sync(t.Context(), r.source)
	if err != nil || result.NoSpace != 2 {
		t.Errorf("Sync = %+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"app:v01", "app:v02"}, r.tags()); diff != "" {
		t.Error(diff)
	}
	if result.Received > 4<<20 {
		t.Errorf("%d bytes were received; bytes on disk were fetched again", result.Received)
	}
}

// The last bytes of an image do not fit, and discarding the rest would help no other image.
func TestPartialLayerStaysIfDiscardingItHelpsNothing(t *testing.T) {
	p := newParent(t)
	p.images(4, 4)
	r, disk := onSmallDisk(t, p, 5<<20)
	layer := randomBytes(100, 4<<20)
	transfer, err := r.Transfer(t.Context(), digest.FromBytes(layer), int64(len(layer)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Write(t.Context(), layer[:3<<20], 0); err != nil {
		t.Fatal(err)
	}
	transfer.Close()
	disk.setFree(reserveLeft)
	r.follow()
	if result, err := r.Sync(t.Context(), r.source); err != nil || result.NoSpace != 2 {
		t.Errorf("Sync = %+v, %v", result, err)
	}
	disk.setFree(reserveLeft + 2<<20)
	result, err := r.Sync(t.Context(), r.source)
	if err != nil || result.Synced != 1 || result.Received > 1<<20+100<<10 {
		t.Errorf("Sync with room for the rest = %+v, %v", result, err)
	}
}

func TestFullDiskFailsTheItemAndKeepsItsBytes(t *testing.T) {
	p := newParent(t)
	const size = 4 << 20
	p.image("app", [][]byte{randomBytes(1, size)}, "large")
	p.image("app", [][]byte{randomBytes(2, 100<<10)}, "small")
	r, disk := onSmallDisk(t, p, 0)
	disk.hidesFree = true // as if another writer took the reserved space
	disk.alwaysFits = 128 << 10
	r.follow()
	disk.setFree(3 << 20)
	result, err := r.Sync(t.Context(), r.source)
	if err != nil || result.Synced != 1 || result.Failed != 1 {
		t.Fatalf("Sync = %+v, %v: %v", result, err, r.items())
	}
	if items := r.items(); !strings.Contains(items[0], "no space left on the registry's disk") {
		t.Errorf("items are %v; want one that failed for lack of space", items)
	}
	disk.setFree(1 << 30)
	again := r.sync()
	if limit := int64(size + 200<<10 + 64<<10*4); result.Received+again.Received > limit {
		t.Errorf("%d and %d bytes were received, want at most %d in all", result.Received, again.Received, limit)
	}
	assertInSync(t, p, r.Storage)
}

// The database of a data directory was lost. Files that no row knows are verified and used.
func TestLayersSurviveALostDatabase(t *testing.T) {
	p := newParent(t)
	p.image("app", [][]byte{randomBytes(1, 4<<20), randomBytes(2, 100<<10)}, "v1")
	files := storagetest.Files(t, t.TempDir())
	for sync, limit := range []int64{5 << 20, 64 << 10} { // the second fetches manifests and configs
		s, db, err := storagetest.Open(t.Context(), t.TempDir(), storage.Options{Blobs: files})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		r := &replica{Storage: s, Engine: replication.New(replication.Options{Storage: s, DB: db}), db: db,
			source: p.client(), t: t}
		r.follow()
		if result := r.sync(); result.Received > limit {
			t.Errorf("sync %d received %d bytes, want at most %d", sync, result.Received, limit)
		}
		assertInSync(t, p, r.Storage)
	}
}
