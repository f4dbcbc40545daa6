package gateway_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// everything reads a snapshot to its end.
func (f *fixture) everything(t *testing.T) (items []wire.SnapshotItem, cursor int64, pages int) {
	t.Helper()
	for after := ""; ; {
		page, err := f.client.Snapshot(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		if pages == 0 {
			cursor = page.Cursor
		}
		if page.Feed != feedName {
			t.Errorf("feed = %q, want %q", page.Feed, feedName)
		}
		items = append(items, page.Items...)
		if pages++; page.Next == "" {
			return items, cursor, pages
		}
		after = page.Next
	}
}

func TestSnapshotHasTagsAndUnreferencedManifestsOfWhatTheChildMaySee(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		a := f.image(t, "app/a", "1", "v1", "v2")
		child := f.image(t, "app/b", "2")
		index := f.index(t, "app/b", []digest.Digest{child}, "v1")
		signature := f.referrer(t, "app/b", "sig", index)
		f.image(t, "secret/c", "3", "v1")
		items, cursor, _ := f.everything(t)
		want := []wire.SnapshotItem{
			{Repository: "app/a", Tag: "v1", Digest: a},
			{Repository: "app/a", Tag: "v2", Digest: a},
			{Repository: "app/b", Tag: "v1", Digest: index},
			{Repository: "app/b", Digest: signature},
		}
		if diff := cmp.Diff(want, items); diff != "" {
			t.Error(diff)
		}
		if cursor != f.head(t) {
			t.Errorf("cursor = %d, want %d", cursor, f.head(t))
		}
	})
}

func TestSnapshotLeavesOutWhatTagsAndIndexesHaveLeft(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		old := f.image(t, "app/a", "1", "v1")
		signature := f.referrer(t, "app/a", "sig", old)
		child := f.image(t, "app/a", "child")
		f.index(t, "app/a", []digest.Digest{child}, "v1") // the tag moves on
		young := f.image(t, "app/a", "2", "v1")
		byDigest := f.image(t, "app/a", "3")
		items, _, _ := f.everything(t)
		want := []wire.SnapshotItem{
			{Repository: "app/a", Tag: "v1", Digest: young},
			{Repository: "app/a", Digest: byDigest},
		}
		if diff := cmp.Diff(want, items); diff != "" {
			t.Error(diff)
		}
		f.activate(t)
		changes := []wire.Change{
			{Kind: string(storage.ManifestRemoved), Repository: "app/a", Digest: child},
			{Kind: string(storage.TagSet), Repository: "app/a", Tag: "v1", Digest: young},
			{Kind: string(storage.ManifestAdded), Repository: "app/a", Digest: byDigest},
			{Kind: string(storage.ManifestRemoved), Repository: "app/a", Digest: signature},
		}
		if diff := cmp.Diff(changes, f.poll(t, wire.PollRequest{Cursor: 1}).Changes); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSnapshotOfManyItemsComesInPagesWithoutGapsOrRepeats(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	want := map[wire.SnapshotItem]bool{}
	for r := range 3 {
		repository := fmt.Sprintf("app/r%d", r)
		tags := make([]string, 800)
		for i := range tags {
			tags[i] = fmt.Sprintf("t%d", i)
		}
		d := f.image(t, repository, "1", tags...)
		for _, tag := range tags {
			want[wire.SnapshotItem{Repository: repository, Tag: tag, Digest: d}] = true
		}
	}
	items, _, pages := f.everything(t)
	for _, item := range items {
		if !want[item] {
			t.Fatalf("%v came twice, or is not there", item)
		}
		delete(want, item)
	}
	if len(want) > 0 || pages != 3 {
		t.Errorf("%d items did not come, in %d pages; want none, in 3", len(want), pages)
	}
}

func TestSnapshotFromAMalformedPlaceIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	for _, after := range []string{"!", "AAAA", "Li4vLi4AdAA"} {
		_, err := f.client.Snapshot(t.Context(), after)
		var answer *gateway.AnswerError
		if !errors.As(err, &answer) || answer.Code != "INVALID" {
			t.Errorf("snapshot after %q = %v, want INVALID", after, err)
		}
	}
}

func TestSnapshotPlaceIsNoWayAroundTheScope(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.image(t, "secret/a", "1", "v1")
	// "secret/a", tags, after "".
	page, err := f.client.Snapshot(t.Context(), "c2VjcmV0L2EAdAA")
	if err == nil && len(page.Items) > 0 {
		t.Errorf("items = %v, want none", page.Items)
	}
}
