package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestOldTransferWithoutLeaseIsStale(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		now := noon
		old := now.Add(-2 * time.Hour)
		row := func(digest string, at metadb.Uptime) metadb.Transfer {
			return metadb.Transfer{Digest: digest, Size: 9, Ranges: "[[0,5]]", Hashed: 5, HashState: []byte{0, 255},
				UpdatedAt: at}
		}
		update(t, db, func(tx *metadb.Tx) error {
			for _, tr := range []metadb.Transfer{row("sha256:1", old), row("sha256:2", old), row("sha256:3", now),
				row("sha256:4", now)} {
				if err := tx.PutTransfer(tr); err != nil {
					return err
				}
			}
			if err := tx.PutTransfer(row("sha256:4", old)); err != nil {
				return err
			}
			if err := tx.Lease("other", "sha256:4", now.Add(-time.Minute)); err != nil { // it ended
				return err
			}
			return tx.Lease("sync", "sha256:2", now)
		})
		before := now.Add(-time.Hour)
		update(t, db, func(tx *metadb.Tx) error {
			got, err := tx.StaleTransfers(before, now, "", 10)
			if err != nil {
				return err
			}
			if diff := cmp.Diff([]metadb.Transfer{row("sha256:1", old), row("sha256:4", old)}, got); diff != "" {
				t.Errorf("stale transfers differ (-want +got):\n%s", diff)
			}
			if got, err = tx.StaleTransfers(before, now, "sha256:1", 10); err != nil || len(got) != 1 {
				t.Errorf("stale transfers of the next page: %v, %v", got, err)
			}
			for digest, want := range map[string]bool{"sha256:1": true, "sha256:2": false, "sha256:3": false,
				"sha256:9": false} {
				if gone, err := tx.DeleteTransferIfStale(digest, before, now); gone != want || err != nil {
					t.Errorf("DeleteTransferIfStale(%s) = %v, %v", digest, gone, err)
				}
			}
			if _, err := tx.Transfer("sha256:1"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("a deleted transfer: %v", err)
			}
			if err := tx.ReleaseBefore("sync", now+1); err != nil {
				return err
			}
			gone, err := tx.DeleteTransferIfStale("sha256:2", before, now)
			if !gone {
				t.Error("a released transfer is still held")
			}
			return err
		})
	})
}
