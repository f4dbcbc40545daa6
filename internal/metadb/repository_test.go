package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// epoch is a time, and noon the uptime then.
var epoch = time.UnixMilli(1_700_000_000_000).UTC()

const noon metadb.Uptime = 12 * 3600_000

func TestRepositoryKeepsItsCreationTimeAndLocks(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		later := epoch.Add(time.Minute)
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.TouchRepository("a", epoch), tx.SetRepositoryLocks("a", 5),
				tx.TouchRepository("a", later))
		})
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Repository("a")
			want := metadb.Repository{Name: "a", CreatedAt: epoch, UpdatedAt: later, Locks: 5}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	})
}

func TestRepositoriesAreListedInByteOrder(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		const hidden = 8
		update(t, db, func(tx *metadb.Tx) error {
			for _, name := range []string{"b", "a_b", "a-b", "a/b", "a", "hidden"} {
				if err := tx.TouchRepository(name, epoch); err != nil {
					return err
				}
			}
			return tx.SetRepositoryLocks("hidden", hidden|1)
		})
		names := func(after string, limit int, without metadb.Locks) (names []string) {
			view(t, db, func(tx *metadb.Tx) error {
				all, err := tx.Repositories(after, limit, without)
				for _, r := range all {
					names = append(names, r.Name)
				}
				return err
			})
			return names
		}
		if diff := cmp.Diff([]string{"a", "a-b", "a/b", "a_b", "b"}, names("", 9, hidden)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"a_b", "b", "hidden"}, names("a/b", 9, 0)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"a-b"}, names("a", 1, hidden)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDeletedRepositoryLeavesNoRows(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		update(t, db, func(tx *metadb.Tx) error {
			for _, name := range []string{"a", "b"} {
				_, err := tx.PutManifest(metadb.Manifest{Repository: name, Digest: "m", Annotations: "{}",
					Payload: []byte("{}")}, []metadb.Child{{Digest: "x"}})
				if err := errors.Join(err, tx.TouchRepository(name, epoch), tx.SetTag(name, "t", "m", 0, epoch),
					tx.LinkBlob(name, "x", noon),
					tx.PutUpload(metadb.Upload{ID: "u" + name, Repository: name, HashState: []byte{}})); err != nil {
					return err
				}
			}
			return errors.Join(tx.PutBlob(metadb.Blob{Digest: "x", Size: 1}), tx.DeleteRepository("a"))
		})
		view(t, db, func(tx *metadb.Tx) error {
			for name, want := range map[string]bool{"a": false, "b": true} {
				_, missing := tx.Repository(name)
				manifests, tags, err := tx.CountContent(name)
				if err != nil {
					return err
				}
				upload, err := tx.HasUpload("u" + name)
				if err != nil {
					return err
				}
				_, unlinked := tx.RepositoryBlob(name, "x")
				referenced, err := tx.BlobReferenced(name, "x")
				if err != nil {
					return err
				}
				got := map[string]bool{
					"row": missing == nil, "manifests": manifests > 0, "tags": tags > 0, "upload": upload,
					"link": unlinked == nil, "reference": referenced,
				}
				for query, is := range got {
					if is != want {
						t.Errorf("%s of %s: %v, want %v", query, name, is, want)
					}
				}
			}
			_, err := tx.Blob("x") // the content is another matter
			return err
		})
		err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.DeleteRepository("a") })
		if !errors.Is(err, metadb.ErrNotFound) {
			t.Errorf("a second DeleteRepository = %v, want %v", err, metadb.ErrNotFound)
		}
	})
}
