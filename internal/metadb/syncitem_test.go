package metadb_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestSyncItemKindsSelectTheirItems(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		now := time.UnixMilli(1_700_000_000_123).UTC()
		wanted := metadb.SyncItem{Repository: "a", Item: "v1", Tag: "v1", Digest: "sha256:1", State: "pending",
			ChangedAt: now}
		failed := metadb.SyncItem{Repository: "a", Item: "sha256:2", Digest: "sha256:2", State: "failed",
			Error: "not found", ChangedAt: now, SyncedAt: now}
		synced := metadb.SyncItem{Repository: "b", Item: "v1", Tag: "v1", Digest: "sha256:1", State: "synced",
			ChangedAt: now, SyncedAt: now}
		leaving := metadb.SyncItem{Repository: "b", Item: "v2", Tag: "v2", State: "pending", ChangedAt: now}
		gone := metadb.SyncItem{Repository: "c", Item: "v1", Tag: "v1", State: "synced", ChangedAt: now}
		permanent := metadb.SyncItem{Repository: "d", Item: "v1", Tag: "v1", Digest: "sha256:3", State: "failed",
			Error: "schema 1", Permanent: true, ChangedAt: now}
		others := []metadb.SyncItem{ // of another source, which no question about the parent touches
			{Source: "mirror/x", Repository: "a", Item: "v1", Tag: "v1", Digest: "sha256:9", State: "pending",
				ChangedAt: now},
			{Source: "mirror/x", Repository: "c", Item: "v1", Tag: "v1", State: "synced", ChangedAt: now},
		}
		update(t, db, func(tx *metadb.Tx) error {
			for _, i := range append(slices.Clone(others), permanent, gone, leaving, synced, failed, wanted) {
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
		page := func(
			source string, kind metadb.SyncItemKind, repository, item string, limit int,
		) func(*metadb.Tx) ([]metadb.SyncItem, error) {
			return func(tx *metadb.Tx) ([]metadb.SyncItem, error) {
				return tx.SyncItems(source, kind, repository, item, limit)
			}
		}
		items("items", []metadb.SyncItem{failed, wanted, synced, leaving, gone, permanent},
			page(metadb.Parent, metadb.AnySyncItem, "", "", 10))
		items("items of a page", []metadb.SyncItem{wanted, synced},
			page(metadb.Parent, metadb.AnySyncItem, "a", "sha256:2", 2))
		items("items out of sync", []metadb.SyncItem{failed, wanted, leaving, permanent},
			page(metadb.Parent, metadb.OutOfSyncItem, "", "", 10))
		items("failed items", []metadb.SyncItem{failed, permanent},
			page(metadb.Parent, metadb.FailedSyncItem, "", "", 10))
		items("items that failed permanently", []metadb.SyncItem{permanent},
			page(metadb.Parent, metadb.PermanentSyncItem, "", "", 10))
		items("items that removals wait for", []metadb.SyncItem{failed, wanted},
			page(metadb.Parent, metadb.AwaitedSyncItem, "", "", 10))
		items("items to be removed", []metadb.SyncItem{leaving},
			page(metadb.Parent, metadb.LeavingSyncItem, "", "", 10))
		for text, want := range map[string]bool{"not found": true, "found": true, "no space": false} {
			got, err := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (bool, error) {
				return tx.SyncItemFailedWith(metadb.Parent, text)
			})
			if got != want || err != nil {
				t.Errorf("an item failed with %q: %v, %v", text, got, err)
			}
		}
		update(t, db, func(tx *metadb.Tx) error {
			for kind, want := range map[metadb.SyncItemKind]map[string]int{
				metadb.AnySyncItem: {"a": 2, "b": 2, "c": 1, "d": 1}, metadb.WantedSyncItem: {"a": 2, "d": 1},
				metadb.GoneSyncItem: {"c": 1},
			} {
				got, err := tx.SyncRepositories(metadb.Parent, kind)
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("repositories where %s: %v, %s", kind, err, diff)
				}
			}
			counts, err := tx.CountSyncItems(metadb.Parent)
			if diff := cmp.Diff(map[string]int{"pending": 2, "failed": 2, "synced": 1}, counts); diff != "" ||
				err != nil {
				t.Errorf("counts: %v, %s", err, diff)
			}
			for digest, want := range map[string]bool{"sha256:1": true, "sha256:2": true, "sha256:3": false} {
				if got, err := tx.HasSyncItemOf("a", digest); got != want || err != nil {
					t.Errorf("HasSyncItemOf(%s) = %v, %v", digest, got, err)
				}
			}
			if err := tx.DeleteGoneSyncItems(metadb.Parent, "c"); err != nil {
				return err
			}
			if err := tx.DeleteGoneSyncItems(metadb.Parent, "b"); err != nil {
				return err
			}
			return nil
		})
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.MarkForRemoval(metadb.Parent, "a", 0, now); err != nil {
				return err
			}
			if _, err := tx.SyncItem(metadb.Parent, "c", "v1"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("the row of a removed item is still there: %v", err)
			}
			i, err := tx.SyncItem(metadb.Parent, "a", "v1")
			if i.Digest != "" || i.State != "pending" {
				t.Errorf("an item that is marked for removal is %+v", i)
			}
			return err
		})
		items("items of another source", others, page("mirror/x", metadb.AnySyncItem, "", "", 10))
		update(t, db, func(tx *metadb.Tx) error { return tx.ForgetSources("import/") })
		items("items of a source of another kind", others, page("mirror/x", metadb.AnySyncItem, "", "", 10))
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.PutSyncItem(metadb.SyncItem{Source: "mirror/y", Repository: "a", Item: "v1", Tag: "v1",
				State: "synced"}); err != nil {
				return err
			}
			return tx.ForgetSource("mirror/y")
		})
		items("items beside those of a source that was forgotten", others,
			page("mirror/x", metadb.AnySyncItem, "", "", 10))
		update(t, db, func(tx *metadb.Tx) error { return tx.ForgetSources("mirror/") })
		items("items of a source that was forgotten", nil, page("mirror/x", metadb.AnySyncItem, "", "", 10))
		update(t, db, func(tx *metadb.Tx) error {
			_, err := tx.SyncItem(metadb.Parent, "a", "v1")
			return err
		})
	})
}

func TestPassFindsUnlistedRepositories(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		put := func(tx *metadb.Tx, source, repository, digest string) error {
			return tx.PutSyncItem(metadb.SyncItem{Source: source, Repository: repository, Item: "v1", Tag: "v1",
				Digest: digest, State: "synced"})
		}
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(
				put(tx, "", "listed", "d"), put(tx, "", "not listed", "d"), put(tx, "", "leaving", ""),
				put(tx, "mirror/x", "other", "d"),
				tx.MarkListed(metadb.Parent, "listed"), tx.MarkListed(metadb.Parent, "listed"),
				tx.MarkListed("mirror/x", "not listed"),
			)
		})
		check := func(want ...string) {
			t.Helper()
			view(t, db, func(tx *metadb.Tx) error {
				got, err := tx.UnlistedRepositories(metadb.Parent)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				return err
			})
		}
		check("not listed")
		update(t, db, func(tx *metadb.Tx) error { return tx.ClearPass(metadb.Parent) })
		check("listed", "not listed")
	})
}

func TestSyncItemsInRangeRespectsItsBounds(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		update(t, db, func(tx *metadb.Tx) error {
			for _, name := range []string{"a", "b", "c", "d"} {
				i := metadb.SyncItem{Repository: "r", Item: name, Tag: name, Digest: "d", Part: "p", State: "synced"}
				if err := tx.PutSyncItem(i); err != nil {
					return err
				}
			}
			return nil
		})
		for _, tc := range []struct{ after, last, want string }{{"", "", "abcd"}, {"a", "c", "bc"}, {"b", "", "cd"},
			{"", "b", "ab"}} {
			view(t, db, func(tx *metadb.Tx) error {
				rows, err := tx.SyncItemsInRange(metadb.Parent, "r", tc.after, tc.last)
				got := ""
				for _, row := range rows {
					got += row.Item
					if row.Part != "p" {
						t.Errorf("the part is %q", row.Part)
					}
				}
				if got != tc.want {
					t.Errorf("after %q to %q: %q, want %q", tc.after, tc.last, got, tc.want)
				}
				return err
			})
		}
	})
}
