package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestABlobIsARepositorysOnceItIsLinkedAndHere(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		later := epoch.Add(time.Hour)
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.TouchRepository("a", epoch), tx.SetRepositoryLocks("a", 1),
				tx.PutBlob(metadb.Blob{Digest: "x", Size: 1 << 40, CreatedAt: epoch}),
				tx.PutBlob(metadb.Blob{Digest: "x", Size: 7, CreatedAt: later}), // changes nothing
				tx.LinkBlob("a", "x", epoch), tx.LinkBlob("a", "x", later), tx.LinkBlob("a", "not here", epoch))
		})
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.RepositoryBlob("a", "x")
			want := metadb.RepositoryBlob{Blob: metadb.Blob{Digest: "x", Size: 1 << 40, CreatedAt: epoch}, LinkedAt: later, Locks: 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for _, of := range [][2]string{{"b", "x"}, {"a", "not here"}} {
				if _, err := tx.RepositoryBlob(of[0], of[1]); !errors.Is(err, metadb.ErrNotFound) {
					t.Errorf("RepositoryBlob%v = %v, want %v", of, err, metadb.ErrNotFound)
				}
			}
			return err
		})
	})
}

func TestAbsentBlobsAreThoseWithoutALink(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		var all, want []string
		update(t, db, func(tx *metadb.Tx) error {
			for i := range 1200 { // more than one statement takes
				d := string(rune(0x4e00 + i))
				if all = append(all, d); i%3 == 0 {
					want = append(want, d)
				} else if err := tx.LinkBlob("a", d, epoch); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.AbsentBlobs("a", all)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if none, err := tx.AbsentBlobs("a", nil); len(none) != 0 || err != nil {
				t.Errorf("of no blobs %v are absent, %v", none, err)
			}
			return err
		})
	})
}

// TestOnlyTheLooseTheOldAndTheUnleasedIsGarbage takes away one reason to keep
// a blob at a time.
func TestOnlyTheLooseTheOldAndTheUnleasedIsGarbage(t *testing.T) {
	young, old := epoch.Add(time.Hour), epoch.Add(-time.Hour)
	for name, tc := range map[string]struct {
		created, linked time.Time
		lease           time.Time
		referencedBy    string
		want            bool
	}{
		"garbage":                   {old, old, time.Time{}, "", true},
		"young blob":                {young, time.Time{}, time.Time{}, "", false},
		"young link":                {old, young, time.Time{}, "", false},
		"leased":                    {old, old, epoch, "", false},
		"lease has ended":           {old, old, epoch.Add(-time.Millisecond), "", true},
		"leased without a link":     {old, time.Time{}, epoch, "", false},
		"referenced":                {old, old, time.Time{}, "a", false},
		"referenced elsewhere only": {old, old, time.Time{}, "b", true},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
				update(t, db, func(tx *metadb.Tx) error {
					if err := tx.PutBlob(metadb.Blob{Digest: "x", CreatedAt: tc.created}); err != nil {
						return err
					}
					if !tc.linked.IsZero() {
						if err := tx.LinkBlob("a", "x", tc.linked); err != nil {
							return err
						}
					}
					if !tc.lease.IsZero() {
						if err := tx.Lease("holder", "x", tc.lease); err != nil {
							return err
						}
					}
					if tc.referencedBy != "" {
						_, err := tx.PutManifest(metadb.Manifest{Repository: tc.referencedBy, Digest: "m", Payload: []byte("{}")}, []metadb.Child{{Digest: "x"}})
						return err
					}
					return nil
				})
				update(t, db, func(tx *metadb.Tx) error {
					if _, err := tx.UnlinkStale(epoch, epoch); err != nil {
						return err
					}
					garbage, err := tx.Garbage(epoch, epoch, 10)
					if err != nil {
						return err
					}
					if got := len(garbage) == 1; got != tc.want {
						t.Errorf("garbage: %v, want %v", got, tc.want)
					}
					gone, err := tx.DeleteIfGarbage("x", epoch, epoch)
					if gone != tc.want {
						t.Errorf("deleted: %v, want %v", gone, tc.want)
					}
					return err
				})
			})
		})
	}
}
