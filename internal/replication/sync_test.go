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
)

func TestReplicaMatchesItsParent(t *testing.T) {
	p := newParent(t)
	base := randomBytes(1, 300<<10)
	v1 := p.image("app/web", [][]byte{base, randomBytes(2, 2<<20)}, "v1", "latest")
	p.image("app/db", [][]byte{base, []byte("small"), nil}, "v1")
	amd := p.image("multi", [][]byte{randomBytes(3, 100<<10)})
	arm := p.image("multi", [][]byte{randomBytes(4, 100<<10)})
	p.index("multi", []oci.Descriptor{amd, arm}, "v1")
	p.referrer("app/web", v1, []byte("signature"))
	r := newReplica(t, p, replication.Options{})
	r.follow()
	result := r.sync()
	assertInSync(t, p, r.Storage)
	if result.Synced != 5 || result.Received < 2<<20 {
		t.Errorf("Sync = %+v", result)
	}
	if last := r.Progress(); last.ItemsDone != 5 || last.ItemsTotal != 5 || last.BytesDone != last.BytesTotal {
		t.Errorf("progress at the end: %+v", last)
	}
	sent := p.blobs.Load()
	if again := r.sync(); again != (replication.Result{}) {
		t.Errorf("the second Sync = %+v, want no work", again)
	}
	r.relist()
	if again := r.sync(); again != (replication.Result{}) || p.blobs.Load() != sent {
		t.Errorf("Sync after a complete listing = %+v, want no work", again)
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
			p.image("app", [][]byte{randomBytes(1, size)}, "v1")
			p.network.Set(faultnet.Faults{Rate: 32 << 20}) // without a limit, socket buffers would take everything
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
			assertInSync(t, p, r.Storage)
			// The layer and the image's config, and nothing twice.
			if received < size || received > size+1000 {
				t.Errorf("%d bytes were received, want about %d, with %d stops", received, size, stops)
			}
		})
	}
}

func TestSourceWithoutRangesIsSynced(t *testing.T) {
	p := newParent(t)
	p.ranges = func() bool { return false }
	const size = 3 << 20
	p.image("app", [][]byte{randomBytes(1, size), randomBytes(2, size), randomBytes(3, 100<<10)}, "v1")
	r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
	r.follow()
	result := r.sync()
	assertInSync(t, p, r.Storage)
	// The first connections may find out at the same time that there are no ranges.
	if result.Received > 2*2*size {
		t.Errorf("%d bytes were received, want at most twice %d", result.Received, 2*size)
	}
}

// A slowFirstSource delays its answer to the first request within a blob.
type slowFirstSource struct {
	replication.Source
	first atomic.Bool
	wait  func(ctx context.Context)
}

func (l *slowFirstSource) Blob(ctx context.Context, repository string, d digest.Digest, offset,
	length int64) (io.ReadCloser, int64, error) {
	if offset > 0 && !l.first.Swap(true) {
		l.wait(ctx)
	}
	return l.Source.Blob(ctx, repository, d, offset, length)
}

func TestOnlyOneWorkerFetchesALayerWithoutRangeSupport(t *testing.T) {
	p := newParent(t)
	p.ranges = func() bool { return false }
	const size = 3 << 20
	p.image("app", [][]byte{randomBytes(1, size)}, "v1")
	r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
	r.follow()
	whole := func(ctx context.Context) {
		for r.Progress().BytesDone < size && ctx.Err() == nil {
			runtime.Gosched()
		}
	}
	result, err := r.Sync(t.Context(), &slowFirstSource{Source: r.source, wait: whole})
	if err != nil || result.Failed > 0 {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	assertInSync(t, p, r.Storage)
	if result.Received > size+size/2 {
		t.Errorf("%d bytes were received, want about %d", result.Received, size)
	}
}

func TestLockedTagOfAMirrorFailsAlone(t *testing.T) {
	p := newParent(t)
	p.image("app", [][]byte{randomBytes(0, 1000)}, "v0")
	r := newReplica(t, p, replication.Options{Source: "mirror/m"})
	r.follow()
	r.sync()
	if err := r.ChangeLocks(t.Context(), "app", "v0", storage.LockChange{Set: storage.NoWrite}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		p.image("app", [][]byte{randomBytes(1, 1000), randomBytes(uint64(10+i), 100)}, fmt.Sprint("v", i),
			fmt.Sprint("also-v", i))
	}
	r.follow()
	result, err := r.Sync(t.Context(), r.source)
	if err != nil || result.Failed != 1 || result.Synced != 19 {
		t.Errorf("Sync = %+v, %v; items %v", result, err, r.items())
	}
	if items := r.items(); !slices.ContainsFunc(items,
		func(i string) bool { return strings.Contains(i, ":v0 ") && strings.Contains(i, "locked") }) {
		t.Errorf("no item says that the tag is locked: %v", items)
	}
}

// The parent lacks a manifest that it lists. The first time, it may only have changed since.
func TestOldContentStaysUntilNewContentIsComplete(t *testing.T) {
	p := newParent(t)
	ctx := t.Context()
	for _, repository := range []string{"a", "b"} {
		p.image(repository, [][]byte{randomBytes(1, 20<<10)}, "v1")
		p.image(repository, [][]byte{randomBytes(2, 20<<10)}, "old")
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	moved := p.image("a", [][]byte{randomBytes(3, 20<<10)}, "v1")
	for _, repository := range []string{"a", "b"} {
		if err := p.DeleteTag(ctx, repository, "old"); err != nil {
			t.Fatal(err)
		}
	}
	r.follow()
	src := &planSource{Source: r.source, edit: func(e replication.PlanEntry) (replication.PlanEntry, error) {
		if e.Manifest != nil && e.Manifest.Digest == moved.Digest {
			e = replication.PlanEntry{Missing: &replication.PlanMissing{Ref: ref("a", moved.Digest),
				Reason: "not today"}}
		}
		return e, nil
	}}
	if result, err := r.Sync(ctx, src); err != nil || result.Failed != 1 || result.Removed != 1 {
		t.Errorf("Sync = %+v, %v", result, err)
	}
	want := []string{"a:old", "a:v1", "b:v1"}
	if got := r.tags(); !slices.Equal(got, want) {
		t.Errorf("while a's new image fails: tags are %v, want %v", got, want)
	}
	if items := r.items(); !slices.ContainsFunc(items,
		func(i string) bool { return strings.HasSuffix(i, "not today") }) {
		t.Errorf("no item says why it failed: %v", items)
	}
	r.sync()
	if got, want := r.tags(), []string{"a:v1", "b:v1"}; !slices.Equal(got, want) {
		t.Errorf("after the last Sync: tags are %v, want %v", got, want)
	}
	for _, repository := range []string{"a", "b"} {
		manifests, err := r.Manifests(ctx, repository, storage.ManifestOrder{}, "", 100)
		if err != nil || len(manifests) != 1 {
			t.Errorf("%s has %d manifests, %v; want only the new one", repository, len(manifests), err)
		}
	}
}

// tags returns the replica's tags, as repository:name.
func (r *replica) tags() []string {
	r.t.Helper()
	c, err := readContent(r.t.Context(), r.Storage, map[digest.Digest]bool{})
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

func TestContentOutOfScopeIsRemoved(t *testing.T) {
	p := newParent(t)
	for _, repository := range []string{"a", "b"} {
		m := p.image(repository, [][]byte{randomBytes(1, 20<<10)})
		p.index(repository, []oci.Descriptor{m}, "v1")
		p.image(repository, [][]byte{randomBytes(2, 20<<10)}) // untagged
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	p.subscribed.Store(&childSubscription{repository: "a"})
	r.follow()
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

func TestIncompletePassRemovesNothing(t *testing.T) {
	p := newParent(t)
	ctx := t.Context()
	listing := func(repository string) replication.Listing {
		m := p.image(repository, [][]byte{randomBytes(1, 100)}, "v1")
		return replication.Listing{Repository: repository,
			Items: []replication.ListedItem{{Tag: "v1", Digest: m.Digest}}}
	}
	a, b, c := listing("a"), listing("b"), listing("c")
	r := newReplica(t, p, replication.Options{})
	for i, step := range []struct {
		answer replication.Answer
		want   []string
	}{
		{replication.Answer{Restart: true, Head: 3, Cursor: 3, Listings: []replication.Listing{a, b}},
			[]string{"a:v1", "b:v1"}},
		{replication.Answer{Restart: true, Head: 3, More: true, Cursor: 1, Listings: []replication.Listing{a}},
			[]string{"a:v1", "b:v1"}}, // the pass ends early
		{replication.Answer{Restart: true, Head: 3, More: true, Cursor: 3, Listings: []replication.Listing{c}},
			[]string{"a:v1", "b:v1", "c:v1"}},
		{replication.Answer{Cursor: 4, Listings: []replication.Listing{b}}, []string{"b:v1", "c:v1"}},
	} {
		step.answer.Feed, step.answer.Subscription = "parent", "all"
		if _, err := r.ApplyAnswer(ctx, step.answer); err != nil {
			t.Fatal(err)
		}
		if position, err := r.Position(ctx); position.Cursor != step.answer.Cursor ||
			position.Current() == step.answer.More ||
			err != nil {
			t.Errorf("step %d: the position is %+v, %v", i, position, err)
		}
		r.sync()
		if got := r.tags(); !slices.Equal(got, step.want) {
			t.Errorf("step %d: the tags are %v, want %v", i, got, step.want)
		}
	}
}
