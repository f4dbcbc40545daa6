package metadb_test

import (
	"errors"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestLeaseIsNeverShortened(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		held := func(at metadb.Uptime) bool {
			var garbage []metadb.Blob
			view(t, db, func(tx *metadb.Tx) (err error) {
				garbage, err = tx.Garbage(at, at, 1)
				return err
			})
			return len(garbage) == 0
		}
		hour := noon.Add(time.Hour)
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.PutBlob(metadb.Blob{Digest: "x"}), tx.Lease("one", "x", hour),
				tx.Lease("one", "x", noon))
		})
		if !held(hour) || held(hour+1) {
			t.Error("the lease does not end after the longer of its two times")
		}
		update(t, db, func(tx *metadb.Tx) error { return errors.Join(tx.Lease("two", "x", hour), tx.Release("one")) })
		if !held(hour) {
			t.Error("a holder's release ended another's lease")
		}
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteExpiredLeases(hour) })
		if !held(hour) {
			t.Error("a lease was deleted before its end")
		}
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteExpiredLeases(hour + 1) })
		if held(hour) {
			t.Error("an ended lease was not deleted")
		}
	})
}
