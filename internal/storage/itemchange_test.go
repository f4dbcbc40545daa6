package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func noNote(storage.ItemOutcome) storage.Note { return nil }

func TestChangeOfAChildRespectsItsBase(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		c := storagetest.New(t, storage.Options{DB: db})
		one := c.Push("a", c.Image("a", "1"), "v1").Digest
		two, three := c.Push("a", c.Image("a", "2"), "v2").Digest, c.Push("a", c.Image("a", "3"), "v3").Digest
		absent := digest.FromString("absent")
		apply := func(ch storage.ItemChange) (storage.ItemOutcome, error) {
			ch.Repository = "a"
			return c.Storage.ApplyChange(t.Context(), ch, noNote)
		}
		for _, test := range []struct {
			name     string
			change   storage.ItemChange
			conflict bool
			v1, kept digest.Digest // afterwards
		}{
			{"another base", storage.ItemChange{Tag: "v1", Digest: two, Base: three, KeepAs: "kept"}, true, one, two},
			{"no base", storage.ItemChange{Tag: "v1", Digest: three, KeepAs: "kept"}, true, one, three},
			{"a removal with another base", storage.ItemChange{Tag: "v1", Base: two}, true, one, three},
			{"the base", storage.ItemChange{Tag: "v1", Digest: two, Base: one}, false, two, three},
			{"the same digest", storage.ItemChange{Tag: "v1", Digest: two, Base: three}, false, two, three},
			{"an earlier digest", storage.ItemChange{Tag: "v1", Digest: one, Base: three,
				Earlier: []digest.Digest{two}}, false, one, three},
			{"a removal", storage.ItemChange{Tag: "v1", Base: one}, false, "", three},
			{"a removal again", storage.ItemChange{Tag: "v1", Base: one}, false, "", three},
			{"a removal before", storage.ItemChange{Tag: "v1", Digest: one, Base: two,
				Earlier: []digest.Digest{""}}, false, one, three},
		} {
			o, err := apply(test.change)
			if err != nil || o.Conflict != test.conflict || o.Current != test.v1 || o.Seq == 0 {
				t.Errorf("%s: %+v, %v", test.name, o, err)
			}
			for tag, want := range map[string]digest.Digest{"v1": test.v1, "kept": test.kept} {
				got, err := c.Storage.Tag(t.Context(), "a", tag)
				if err != nil && !errors.Is(err, oci.ErrManifestUnknown) || got.Digest != want {
					t.Errorf("%s: tag %s is %q, %v; want %q", test.name, tag, got.Digest, err, want)
				}
			}
		}
		if _, err := apply(storage.ItemChange{Tag: "v9", Digest: absent}); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("a tag of an absent manifest: %v", err)
		}
	})
}

func TestRemovalOfAManifestSparesItsTags(t *testing.T) {
	c := storagetest.New(t, storage.Options{DB: dbtest.SQLite(t)})
	d := c.Push("a", c.Image("a", "1"), "v1").Digest
	remove := storage.ItemChange{Repository: "a", Manifest: d}
	if _, err := c.Storage.ApplyChange(t.Context(), remove, noNote); err != nil {
		t.Fatal(err)
	}
	if has, err := c.Storage.HasManifest(t.Context(), "a", d); err != nil || !has {
		t.Errorf("a tagged manifest was removed: %v", err)
	}
	if err := c.Storage.DeleteTag(t.Context(), "a", "v1"); err != nil {
		t.Fatal(err)
	}
	for _, ch := range []storage.ItemChange{remove, {Repository: "a"}, {Repository: "a"}} { // then the repository
		if _, err := c.Storage.ApplyChange(t.Context(), ch, noNote); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Storage.Repository(t.Context(), "a"); !errors.Is(err, oci.ErrNameUnknown) {
		t.Errorf("the empty repository is still there: %v", err)
	}
}

func TestChangesOfOneItemAreSentOnce(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		c := storagetest.New(t, storage.Options{DB: db, SendsUp: true})
		for _, seed := range []string{"1", "2", "3"} {
			c.Push("a", c.Image("a", seed), "v1")
		}
		index := c.Push("a", c.Image("a", "4")).Digest
		if err := c.Storage.DeleteTag(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
		last := c.Push("a", c.Image("a", "5"), "v1").Digest
		rows, err := c.Storage.Outbox(t.Context(), 0, 10)
		if err != nil || len(rows) != 2 || rows[0].Item != string(index) || rows[1].Item != "v1" ||
			rows[1].Digest != string(last) || rows[1].Base != "" {
			t.Fatalf("outbox: %+v, %v", rows, err)
		}
		c.Push("a", c.Image("a", "4"), "v2") // a tag references the manifest now
		if rows, err = c.Storage.Outbox(t.Context(), 0, 10); err != nil || len(rows) != 2 || rows[1].Item != "v2" {
			t.Errorf("outbox after a tag for the manifest without one: %+v, %v", rows, err)
		}
	})
}
