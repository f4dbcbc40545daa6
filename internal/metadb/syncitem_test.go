package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestSyncItemsAreToldApartByWhatIsLeftToDo(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		now := time.UnixMilli(1_700_000_000_123).UTC()
		wanted := metadb.SyncItem{Repository: "a", Item: "v1", Tag: "v1", Digest: "sha256:1", State: "pending", ChangedAt: now, Seen: 2}
		failed := metadb.SyncItem{Repository: "a", Item: "sha256:2", Digest: "sha256:2", State: "failed", Error: "not found", ChangedAt: now, SyncedAt: now, Seen: 1}
		synced := metadb.SyncItem{Repository: "b", Item: "v1", Tag: "v1", Digest: "sha256:1", State: "synced", ChangedAt: now, SyncedAt: now, Seen: 2}
		gone := metadb.SyncItem{Repository: "b", Item: "v2", Tag: "v2", State: "pending", ChangedAt: now}
		went := metadb.SyncItem{Repository: "c", Item: "v1", Tag: "v1", State: "synced", ChangedAt: now}
		update(t, db, func(tx *metadb.Tx) error {
			for _, i := range []metadb.SyncItem{went, gone, synced, failed, wanted} {
				if err := tx.PutSyncItem(i); err != nil {
					return err
				}
			}
			return nil
		})
		items := func(name string, want []metadb.SyncItem, read func(tx *metadb.Tx) ([]metadb.SyncItem, error)) {
			t.Helper()
			update(t, db, func(tx *metadb.Tx) error {
				got, err := read(tx)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s differ (-want +got):\n%s", name, diff)
				}
				return err
			})
		}
		items("items", []metadb.SyncItem{failed, wanted, synced, gone, went}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("", "", 10) })
		items("items of a page", []metadb.SyncItem{wanted, synced}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("a", "sha256:2", 2) })
		items("open items", []metadb.SyncItem{failed, wanted, gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.OpenSyncItems("", "", 10) })
		items("items to go", []metadb.SyncItem{gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.GoneSyncItems("", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			for kind, want := range map[metadb.SyncItemKind][]string{
				metadb.AnySyncItem: {"a", "b", "c"}, metadb.WantedSyncItem: {"a"}, metadb.GoneSyncItem: {"c"},
			} {
				got, err := tx.SyncRepositories(kind)
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("repositories where %s: %v, %s", kind, err, diff)
				}
			}
			counts, err := tx.CountSyncItems()
			if diff := cmp.Diff(map[string]int{"pending": 2, "failed": 1, "synced": 2}, counts); diff != "" || err != nil {
				t.Errorf("counts: %v, %s", err, diff)
			}
			if n, err := tx.CountWanted(); n != 2 || err != nil {
				t.Errorf("CountWanted = %d, %v", n, err)
			}
			for digest, want := range map[string]bool{"sha256:1": true, "sha256:2": true, "sha256:3": false} {
				if got, err := tx.WantsManifest("a", digest); got != want || err != nil {
					t.Errorf("WantsManifest(%s) = %v, %v", digest, got, err)
				}
			}
			if err := tx.DeleteGoneSyncItems("c"); err != nil {
				return err
			}
			if err := tx.DeleteGoneSyncItems("b"); err != nil {
				return err
			}
			return tx.DropUnseen(2, now)
		})
		dropped := metadb.SyncItem{Repository: "a", Item: "sha256:2", State: "pending", ChangedAt: now, SyncedAt: now, Seen: 1}
		items("items to go after a snapshot", []metadb.SyncItem{dropped, gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.GoneSyncItems("", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.DropSyncItems("a", now); err != nil {
				return err
			}
			if _, err := tx.SyncItem("c", "v1"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("what went is still noted: %v", err)
			}
			i, err := tx.SyncItem("a", "v1")
			if i.Digest != "" || i.State != "pending" {
				t.Errorf("a dropped item is %+v", i)
			}
			return err
		})
	})
}
