package metadb_test

import (
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestCountersCountUpFromOne(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		for want := int64(1); want <= 3; want++ {
			err := db.Update(t.Context(), func(tx *metadb.Tx) error {
				got, err := tx.Next("x")
				if got != want {
					t.Errorf("Next = %d, want %d", got, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
