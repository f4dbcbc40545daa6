package storage_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
)

// entries returns the feed after a sequence number.
func (f *fixture) entries(t *testing.T, after int64) (all []storage.FeedEntry, head, trimmed int64) {
	t.Helper()
	err := f.View(t.Context(), func(v *storage.View) (err error) {
		if head, trimmed, err = v.FeedHead(); err != nil {
			return err
		}
		all, err = v.Feed(after, 100)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, head, trimmed
}

func (f *fixture) removed(t *testing.T, repository string, after int64) (names []string) {
	t.Helper()
	err := f.View(t.Context(), func(v *storage.View) error {
		removed, err := v.Removed(repository, after)
		for _, r := range removed {
			names = append(names, r.Item)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEachChangeMovesItsRepositoryToTheHead(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.pushImage(t, "a", "v1")
		f.pushImage(t, "b", "v1")
		f.pushImage(t, "a", "v1") // a repeated push is no change
		if err := f.DeleteTag(ctx, "a", "v1"); err != nil {
			t.Fatal(err)
		}
		all, head, _ := f.entries(t, 0)
		want := []storage.FeedEntry{{Repository: "b", Seq: 2}, {Repository: "a", Seq: 3, PrevSeq: 1}}
		if diff := cmp.Diff(want, all); diff != "" || head != 3 {
			t.Errorf("head %d; %s", head, diff)
		}
		if all, _, _ = f.entries(t, 2); len(all) != 1 || all[0].Repository != "a" {
			t.Errorf("behind 2 the feed has %v", all)
		}
		if tag, err := f.Tag(ctx, "b", "v1"); err != nil || tag.Seq != 2 {
			t.Errorf("the tag was set by change %d, %v; want 2", tag.Seq, err)
		}
	})
}

func TestRemovedItemsLeaveTombstones(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		v1 := f.pushImage(t, "a", "v1")
		untagged := f.pushImage(t, "a", "")
		if err := f.SetTag(ctx, "a", "v2", untagged.Digest); err != nil { // it is no item of its own any more
			t.Fatal(err)
		}
		if err := f.DeleteManifest(ctx, "a", v1.Digest); err != nil {
			t.Fatal(err)
		}
		want := []string{string(untagged.Digest), string(v1.Digest), "v1"}
		slices.Sort(want)
		if diff := cmp.Diff(want, f.removed(t, "a", 0)); diff != "" {
			t.Error(diff)
		}
		want = []string{string(v1.Digest), "v1"}
		if diff := cmp.Diff(want, f.removed(t, "a", 3)); diff != "" {
			t.Errorf("behind 3: %s", diff)
		}
	})
}

func TestTrimmedTombstonesNeedACompleteListing(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.pushImage(t, "a", "v1")
		f.pushImage(t, "a", "v2")
		if err := f.DeleteTag(ctx, "a", "v1"); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(time.Hour)
		f.pushImage(t, "a", "v3")
		if err := f.TrimFeed(ctx, 0); err != nil {
			t.Fatal(err)
		}
		all, _, trimmed := f.entries(t, 0)
		if diff := cmp.Diff([]storage.FeedEntry{{Repository: "a", Seq: 4, RelistSeq: 3, PrevSeq: 3}},
			all); diff != "" || trimmed != 0 {
			t.Errorf("trimmed %d; %s", trimmed, diff)
		}
		if names := f.removed(t, "a", 0); len(names) > 0 {
			t.Errorf("tombstones are left: %v", names)
		}
	})
}

func TestDeletedRepositoryStaysInTheFeedUntilTrimmed(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.pushImage(t, "a", "v1")
		f.pushImage(t, "b", "v1")
		if err := f.DeleteRepository(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		all, _, _ := f.entries(t, 2)
		if diff := cmp.Diff([]storage.FeedEntry{{Repository: "a", Seq: 3, RelistSeq: 3, PrevSeq: 1}}, all); diff != "" {
			t.Error(diff)
		}
		f.now = f.now.Add(time.Hour)
		if err := f.TrimFeed(ctx, 0); err != nil {
			t.Fatal(err)
		}
		all, head, trimmed := f.entries(t, 0)
		if len(all) != 1 || all[0].Repository != "b" || head != 3 || trimmed != 3 {
			t.Errorf("the feed has %v, head %d, trimmed %d", all, head, trimmed)
		}
	})
}

func TestChangedIndexNeedsACompleteListing(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		first, second := f.pushImage(t, "a", "v1").Digest, f.pushImage(t, "a", "v2").Digest
		put := func(left ...digest.Digest) {
			t.Helper()
			_, err := f.PutManifest(t.Context(),
				storage.Put{Repository: "a", Payload: index(first, second), Omitted: left, Tags: []string{"both"}})
			if err != nil {
				t.Fatal(err)
			}
		}
		put()
		put(first)
		all, _, _ := f.entries(t, 0)
		if diff := cmp.Diff([]storage.FeedEntry{{Repository: "a", Seq: 4, RelistSeq: 4, PrevSeq: 3}}, all); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOnlyConcernedWatchersWake(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		asked := 0
		concerns := func(repository string) bool { asked++; return repository == "a" }
		first, stop := f.Watch("a only", concerns)
		defer stop()
		second, stop := f.Watch("a only", concerns)
		defer stop()
		other, stop := f.Watch("b only", func(repository string) bool { return repository == "b" })
		defer stop()
		f.pushImage(t, "a", "v1")
		for _, changed := range []<-chan struct{}{first, second} {
			select {
			case <-changed:
			default:
				t.Error("a watcher of the repository did not wake")
			}
		}
		select {
		case <-other:
			t.Error("a watcher of another repository woke")
		default:
		}
		if asked != 1 {
			t.Errorf("concerns was asked %d times for one key, want once", asked)
		}
	})
}
