package replication_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/faultnet"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

func TestReplicaBecomesWhatTheParentIs(t *testing.T) {
	p := newParent(t)
	base := random(1, 300<<10)
	v1 := p.image("app/web", [][]byte{base, random(2, 2<<20)}, "v1", "latest")
	p.image("app/db", [][]byte{base, []byte("small"), nil}, "v1")
	amd := p.image("multi", [][]byte{random(3, 100<<10)})
	arm := p.image("multi", [][]byte{random(4, 100<<10)})
	p.index("multi", []oci.Descriptor{amd, arm}, "v1")
	p.referrer("app/web", v1, []byte("signature"))
	r := newReplica(t, p, replication.Options{})
	r.follow()
	result := r.sync()
	same(t, p, r.Storage)
	if result.Synced != 5 || result.Received < 2<<20 {
		t.Errorf("Sync = %+v", result)
	}
	if last := r.Progress(); last.ItemsDone != 5 || last.ItemsTotal != 5 || last.BytesDone != last.BytesTotal {
		t.Errorf("progress at the end: %+v", last)
	}
	sent := p.blobs.Load()
	if again := r.sync(); again != (replication.Result{}) {
		t.Errorf("a second Sync did something: %+v", again)
	}
	if err := takeStock(t.Context(), r.Engine, r.source); err != nil {
		t.Fatal(err)
	}
	if again := r.sync(); again != (replication.Result{}) || p.blobs.Load() != sent {
		t.Errorf("planning twice changed something: %+v", again)
	}
	if changes, _, err := r.Changes(t.Context(), 0, 100); err != nil || slices.ContainsFunc(changes, func(c storage.Change) bool { return c.Origin != replication.Origin }) {
		t.Errorf("the feed has %v, %v; all should be from the parent", changes, err)
	}
}

func TestEveryByteIsFetchedOnce(t *testing.T) {
	for name, stop := range map[string]func(p *parent, cancel func()){
		"the window closes": func(_ *parent, cancel func()) { cancel() },
		"the link is cut":   func(p *parent, _ func()) { p.network.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newParent(t)
			const size = 8 << 20
			p.image("app", [][]byte{random(1, size)}, "v1")
			p.network.Set(faultnet.Faults{Rate: 32 << 20}) // or the sockets' buffers take it all
			r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
			r.follow()
			stops, received := 0, int64(0)
			for next := int64(1 << 20); ; next += 1 << 20 {
				ctx, cancel := context.WithCancelCause(t.Context())
				var once sync.Once
				p.onSent.Store(func(sent int64) {
					if sent >= next {
						once.Do(func() { stops++; go stop(p, func() { cancel(errClosed) }) })
					}
				})
				result, err := r.Sync(ctx, r.source)
				cancel(nil)
				received += result.Received
				if err == nil {
					break
				}
				if !errors.Is(err, errClosed) {
					t.Fatal(err)
				}
			}
			same(t, p, r.Storage)
			// What the engine took from a connection it kept: the layer, and the
			// config of the image.
			if received < size || received > size+1000 {
				t.Errorf("%d bytes were received for %d, with %d stops", received, size, stops)
			}
		})
	}
}

func TestSourceThatSendsNoRangesWillDo(t *testing.T) {
	p := newParent(t)
	p.ranges = func() bool { return false }
	const size = 3 << 20
	p.image("app", [][]byte{random(1, size), random(2, size), random(3, 100<<10)}, "v1")
	r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
	r.follow()
	result := r.sync()
	same(t, p, r.Storage)
	// The first connections may find out at the same time.
	if result.Received > 2*2*size {
		t.Errorf("%d bytes were received for %d", result.Received, 2*size)
	}
}

// laggard is a source whose first answer to a request for a blob comes only
// once the rest of the layer is here.
type laggard struct {
	replication.Source
	first atomic.Bool
	until func(ctx context.Context)
}

func (l *laggard) Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error) {
	if offset > 0 && !l.first.Swap(true) {
		l.until(ctx)
	}
	return l.Source.Blob(ctx, repository, d, offset, length)
}

func TestWhatOneConnectionFetchedWhollyAnotherThatComesLateLeavesAlone(t *testing.T) {
	p := newParent(t)
	p.ranges = func() bool { return false }
	const size = 3 << 20
	p.image("app", [][]byte{random(1, size)}, "v1")
	r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
	r.follow()
	whole := func(ctx context.Context) {
		for r.Progress().BytesDone < size && ctx.Err() == nil {
			runtime.Gosched()
		}
	}
	result, err := r.Sync(t.Context(), &laggard{Source: r.source, until: whole})
	if err != nil || result.Failed > 0 {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	same(t, p, r.Storage)
	if result.Received > size+size/2 {
		t.Errorf("%d bytes were received for %d", result.Received, size)
	}
}

func TestOldContentStaysUntilAllThatIsNewInItsRepositoryIsHere(t *testing.T) {
	p := newParent(t)
	ctx := t.Context()
	for _, repository := range []string{"a", "b"} {
		p.image(repository, [][]byte{random(1, 20<<10)}, "v1")
		p.image(repository, [][]byte{random(2, 20<<10)}, "old")
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	moved := p.image("a", [][]byte{random(3, 20<<10)}, "v1")
	for _, repository := range []string{"a", "b"} {
		if err := p.DeleteTag(ctx, repository, "old", ""); err != nil {
			t.Fatal(err)
		}
	}
	r.follow()
	src := &altered{Source: r.source, entry: func(e wire.PlanEntry) (wire.PlanEntry, error) {
		if e.Manifest != nil && e.Manifest.Digest == moved.Digest {
			e = wire.PlanEntry{Missing: &wire.PlanMissing{Want: wire.Want{Repository: "a", Digest: moved.Digest}, Reason: "not today"}}
		}
		return e, nil
	}}
	if result, err := r.Sync(ctx, src); err != nil || result.Failed != 1 || result.Removed != 1 {
		t.Errorf("Sync = %+v, %v", result, err)
	}
	want := []string{"a:old", "a:v1", "b:v1"}
	if got := r.tags(); !slices.Equal(got, want) {
		t.Errorf("while a's new image fails, the tags are %v, want %v", got, want)
	}
	if items := r.items(); !slices.ContainsFunc(items, func(i string) bool { return strings.HasSuffix(i, "not today") }) {
		t.Errorf("no item says why it failed: %v", items)
	}
	r.sync()
	if got, want := r.tags(), []string{"a:v1", "b:v1"}; !slices.Equal(got, want) {
		t.Errorf("then the tags are %v, want %v", got, want)
	}
	for _, repository := range []string{"a", "b"} {
		manifests, err := r.Manifests(ctx, repository, "", 100)
		if err != nil || len(manifests) != 1 {
			t.Errorf("%s has %d manifests, %v; the old ones should be gone", repository, len(manifests), err)
		}
	}
}

// tags returns the replica's tags, as repository:name.
func (r *replica) tags() []string {
	r.t.Helper()
	c, err := read(r.t.Context(), r.Storage, map[digest.Digest]bool{})
	if err != nil {
		r.t.Fatal(err)
	}
	var tags []string
	for tag := range c.tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags
}

func TestWhatIsOutOfScopeGoes(t *testing.T) {
	p := newParent(t)
	for _, repository := range []string{"a", "b"} {
		m := p.image(repository, [][]byte{random(1, 20<<10)})
		p.index(repository, []oci.Descriptor{m}, "v1")
		p.image(repository, [][]byte{random(2, 20<<10)}) // without a tag
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	if err := r.Prune(t.Context(), func(repository string) bool { return repository == "a" }); err != nil {
		t.Fatal(err)
	}
	r.sync()
	if got, want := r.tags(), []string{"a:v1"}; !slices.Equal(got, want) {
		t.Errorf("the tags are %v, want %v", got, want)
	}
	if all, err := r.Repositories(t.Context(), "", 10); err != nil || len(all) != 1 {
		t.Errorf("the repositories are %v, %v", all, err)
	}
	if items := r.items(); len(items) != 2 {
		t.Errorf("the items are %v", items)
	}
}

func TestSnapshotThatWasNotReadToItsEndBeginsAgain(t *testing.T) {
	p := newParent(t)
	ctx := t.Context()
	var items []wire.SnapshotItem
	for i := range 4 {
		tag := fmt.Sprint("v", i)
		items = append(items, wire.SnapshotItem{Repository: "app", Tag: tag, Digest: p.image("app", [][]byte{random(uint64(i), 100)}, tag).Digest})
	}
	r := newReplica(t, p, replication.Options{})
	if err := r.ApplySnapshot(ctx, items[2:], 1, false, true); err == nil {
		t.Error("a snapshot without a first page was taken")
	}
	steps := []struct {
		items       []wire.SnapshotItem
		cursor      int64
		first, last bool
	}{
		{items[:2], 7, true, false},  // then the process ends
		{items[:1], 9, true, false},  // and begins again
		{items[2:], 11, false, true}, // whose second page has another cursor
	}
	for _, s := range steps {
		if err := r.ApplySnapshot(ctx, s.items, s.cursor, s.first, s.last); err != nil {
			t.Fatal(err)
		}
		if cursor, _ := r.Cursor(ctx); cursor != 0 && !s.last {
			t.Errorf("cursor is %d before the last page", cursor)
		}
	}
	if cursor, err := r.Cursor(ctx); cursor != 9 || err != nil {
		t.Errorf("Cursor = %d, %v; want the first page's", cursor, err)
	}
	r.sync()
	if got, want := r.tags(), []string{"app:v0", "app:v2", "app:v3"}; !slices.Equal(got, want) {
		t.Errorf("the tags are %v, want %v", got, want)
	}
}
