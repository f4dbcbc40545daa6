package metadb_test

import (
	"errors"
	"slices"
	"strings"
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
		others := []metadb.SyncItem{ // of another source, which no question about the parent touches
			{Source: "mirror/x", Repository: "a", Item: "v1", Tag: "v1", Digest: "sha256:9", State: "pending", ChangedAt: now},
			{Source: "mirror/x", Repository: "c", Item: "v1", Tag: "v1", State: "synced", ChangedAt: now},
		}
		update(t, db, func(tx *metadb.Tx) error {
			for _, i := range append(slices.Clone(others), went, gone, synced, failed, wanted) {
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
		items("items", []metadb.SyncItem{failed, wanted, synced, gone, went}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems(metadb.Parent, "", "", 10) })
		items("items of a page", []metadb.SyncItem{wanted, synced}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems(metadb.Parent, "a", "sha256:2", 2) })
		items("open items", []metadb.SyncItem{failed, wanted, gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.OpenSyncItems(metadb.Parent, "", "", 10) })
		items("items to go", []metadb.SyncItem{gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.GoneSyncItems(metadb.Parent, "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			for kind, want := range map[metadb.SyncItemKind][]string{
				metadb.AnySyncItem: {"a", "b", "c"}, metadb.WantedSyncItem: {"a"}, metadb.GoneSyncItem: {"c"},
			} {
				got, err := tx.SyncRepositories(metadb.Parent, kind)
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("repositories where %s: %v, %s", kind, err, diff)
				}
			}
			counts, err := tx.CountSyncItems(metadb.Parent)
			if diff := cmp.Diff(map[string]int{"pending": 2, "failed": 1, "synced": 1}, counts); diff != "" || err != nil {
				t.Errorf("counts: %v, %s", err, diff)
			}
			waiting, err := tx.WaitingSyncItems(metadb.Parent)
			if diff := cmp.Diff(map[string]int{"a": 2}, waiting); diff != "" || err != nil {
				t.Errorf("waiting: %v, %s", err, diff)
			}
			for digest, want := range map[string]bool{"sha256:1": true, "sha256:2": true, "sha256:3": false} {
				if got, err := tx.WantsManifest("a", digest); got != want || err != nil {
					t.Errorf("WantsManifest(%s) = %v, %v", digest, got, err)
				}
			}
			if err := tx.DeleteGoneSyncItems(metadb.Parent, "c"); err != nil {
				return err
			}
			if err := tx.DeleteGoneSyncItems(metadb.Parent, "b"); err != nil {
				return err
			}
			return tx.DropUnseen(metadb.Parent, 2, now)
		})
		dropped := metadb.SyncItem{Repository: "a", Item: "sha256:2", State: "pending", ChangedAt: now, SyncedAt: now, Seen: 1}
		items("items to go after a snapshot", []metadb.SyncItem{dropped, gone}, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.GoneSyncItems(metadb.Parent, "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.DropSyncItems(metadb.Parent, "a", now); err != nil {
				return err
			}
			if _, err := tx.SyncItem(metadb.Parent, "c", "v1"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("what went is still noted: %v", err)
			}
			i, err := tx.SyncItem(metadb.Parent, "a", "v1")
			if i.Digest != "" || i.State != "pending" {
				t.Errorf("a dropped item is %+v", i)
			}
			return err
		})
		items("items of another source", others, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("mirror/x", "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error { return tx.ForgetSources("import/") })
		items("items of a source of another kind", others, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("mirror/x", "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.PutSyncItem(metadb.SyncItem{Source: "mirror/y", Repository: "a", Item: "v1", Tag: "v1", State: "synced"}); err != nil {
				return err
			}
			return tx.ForgetSource("mirror/y")
		})
		items("items beside those of a source that was forgotten", others, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("mirror/x", "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error { return tx.ForgetSources("mirror/") })
		items("items of a source that was forgotten", nil, func(tx *metadb.Tx) ([]metadb.SyncItem, error) { return tx.SyncItems("mirror/x", "", "", 10) })
		update(t, db, func(tx *metadb.Tx) error {
			_, err := tx.SyncItem(metadb.Parent, "a", "v1")
			return err
		})
	})
}

func TestReopenedItemsAreThoseOfIndexesAndMoveOn(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		then := time.UnixMilli(1_700_000_000_000).UTC()
		item := func(source, name, digest, state string) metadb.SyncItem {
			return metadb.SyncItem{Source: source, Repository: "a", Item: name, Tag: name, Digest: digest, State: state, ChangedAt: then}
		}
		const list = "application/vnd.oci.image.index.v1+json"
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.TouchRepository("a", then); err != nil {
				return err
			}
			for digest, mediaType := range map[string]string{"sha256:index": list, "sha256:image": "application/vnd.oci.image.manifest.v1+json"} {
				if _, err := tx.PutManifest(metadb.Manifest{Repository: "a", Digest: digest, MediaType: mediaType, Payload: []byte("{}"), PushedAt: then}, nil); err != nil {
					return err
				}
			}
			for _, i := range []metadb.SyncItem{
				item("", "index", "sha256:index", "synced"), item("", "image", "sha256:image", "synced"), item("", "new", "sha256:new", "failed"),
				item("", "gone", "", "pending"), item("mirror/x", "index", "sha256:index", "synced"),
			} {
				if err := tx.PutSyncItem(i); err != nil {
					return err
				}
			}
			return nil
		})
		check := func(want string) {
			t.Helper()
			update(t, db, func(tx *metadb.Tx) (err error) {
				all, err := tx.SyncItems(metadb.Parent, "", "", 10)
				if err != nil {
					return err
				}
				var got []string
				for _, i := range all {
					text := i.Item + " " + i.State
					if !i.ChangedAt.Equal(then) {
						text += " moved"
					}
					got = append(got, text)
				}
				if text := strings.Join(got, ", "); text != want {
					t.Errorf("items are %q, want %q", text, want)
				}
				other, err := tx.SyncItem("mirror/x", "a", "index")
				if err != nil || other.State != "synced" {
					t.Errorf("the other source's item is %+v, %v", other, err)
				}
				return err
			})
		}
		// The clock may stand still, and the items move on nevertheless.
		update(t, db, func(tx *metadb.Tx) error { return tx.ReopenIndexes(metadb.Parent, []string{list}, then) })
		check("gone pending, image synced, index pending moved, new pending moved")
		update(t, db, func(tx *metadb.Tx) error {
			return tx.ReopenSyncItems(metadb.Parent, "a", "sha256:image", then.Add(time.Hour))
		})
		check("gone pending, image pending moved, index pending moved, new pending moved")
	})
}
