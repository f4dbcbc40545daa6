package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestUploadIsReadAsLastWritten(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		u := metadb.Upload{ID: "u", Repository: "a", HashState: []byte{}, UpdatedAt: noon}
		update(t, db, func(tx *metadb.Tx) error { return tx.PutUpload(u) })
		u.Hashed, u.HashState, u.UpdatedAt = 1<<40, []byte{0, 1, 255}, noon.Add(time.Hour)
		update(t, db, func(tx *metadb.Tx) error { return tx.PutUpload(u) })
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Upload("a", "u")
			if diff := cmp.Diff(u, got); diff != "" {
				t.Error(diff)
			}
			if _, err := tx.Upload("b", "u"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("the upload under another repository: %v, want %v", err, metadb.ErrNotFound)
			}
			stale, staleErr := tx.StaleUploads(u.UpdatedAt, "", 10)
			if len(stale) != 0 {
				t.Errorf("stale: %v, want none", stale)
			}
			stale, err2 := tx.StaleUploads(u.UpdatedAt+1, "", 10)
			if diff := cmp.Diff([]metadb.Upload{u}, stale); diff != "" {
				t.Error(diff)
			}
			behind, err3 := tx.StaleUploads(u.UpdatedAt+1, "u", 10)
			if len(behind) != 0 {
				t.Errorf("behind the last: %v, want none", behind)
			}
			return errors.Join(err, staleErr, err2, err3)
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteUpload("u") })
		if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.DeleteUpload("u") }); !errors.Is(err,
			metadb.ErrNotFound) {
			t.Errorf("a second DeleteUpload = %v, want %v", err, metadb.ErrNotFound)
		}
	})
}
