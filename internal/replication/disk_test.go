package replication_test

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// small is a blob store on a disk with room for so many bytes more.
type small struct {
	blob.Store
	room *atomic.Int64
}

func (s small) Partial(ctx context.Context, id string) (blob.Partial, error) {
	p, err := s.Store.Partial(ctx, id)
	return smallPartial{p, s.room}, err
}

type smallPartial struct {
	blob.Partial
	room *atomic.Int64
}

func (p smallPartial) WriteAt(b []byte, offset int64) (int, error) {
	if p.room.Add(-int64(len(b))) < 0 {
		p.room.Add(int64(len(b)))
		return 0, syscall.ENOSPC
	}
	return p.Partial.WriteAt(b, offset)
}

func TestFullDiskFailsTheItemAndKeepsWhatItHas(t *testing.T) {
	p := newParent(t)
	const size = 4 << 20
	p.image("app", [][]byte{random(1, size)}, "large")
	p.image("app", [][]byte{random(2, 100<<10)}, "small")
	dir := t.TempDir()
	var room atomic.Int64
	blobs := small{storagetest.Files(t, dir), &room}
	s, db, err := storagetest.Open(t.Context(), dir, storage.Options{Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := &replica{Storage: s, Engine: replication.New(replication.Options{Storage: s, DB: db, Connections: 1}), db: db, source: p.client(), t: t}
	r.follow()
	room.Store(3 << 20)
	result, err := r.Sync(t.Context(), r.source)
	if err != nil || result.Synced != 1 || result.Failed != 1 {
		t.Fatalf("Sync = %+v, %v: %v", result, err, r.items())
	}
	if items := r.items(); !strings.Contains(items[0], "no space left on the registry's disk") {
		t.Errorf("the items are %v", items)
	}
	room.Store(1 << 30)
	again := r.sync()
	if most := int64(size + 200<<10 + 64<<10*4); result.Received+again.Received > most {
		t.Errorf("%d and %d bytes were received", result.Received, again.Received)
	}
	same(t, p, r.Storage)
}

// TestLayersSurviveALostDatabase syncs into a data directory whose database was lost: the
// files that no row knows are verified, and are as good as what was fetched.
func TestLayersSurviveALostDatabase(t *testing.T) {
	p := newParent(t)
	p.image("app", [][]byte{random(1, 4<<20), random(2, 100<<10)}, "v1")
	files := storagetest.Files(t, t.TempDir())
	for sync, most := range []int64{5 << 20, 64 << 10} { // the second fetches manifests and configs
		s, db, err := storagetest.Open(t.Context(), t.TempDir(), storage.Options{Blobs: files})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		r := &replica{Storage: s, Engine: replication.New(replication.Options{Storage: s, DB: db}), db: db, source: p.client(), t: t}
		r.follow()
		if result := r.sync(); result.Received > most {
			t.Errorf("sync %d received %d bytes, want at most %d", sync, result.Received, most)
		}
		same(t, p, r.Storage)
	}
}
