package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestRepositoryHasABlobThatIsLinkedAndStored(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		later := noon.Add(time.Hour)
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.TouchRepository("a", epoch), tx.SetRepositoryLocks("a", 1),
				tx.PutBlob(metadb.Blob{Digest: "x", Size: 1 << 40, CreatedAt: epoch, StoredAt: noon}),
				tx.PutBlob(metadb.Blob{Digest: "x", Size: 7, StoredAt: later}), // changes nothing
				tx.LinkBlob("a", "x", noon), tx.LinkBlob("a", "x", later), tx.LinkBlob("a", "not here", noon))
		})
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.RepositoryBlob("a", "x")
			want := metadb.RepositoryBlob{
				Blob: metadb.Blob{Digest: "x", Size: 1 << 40, CreatedAt: epoch, StoredAt: noon}, LinkedAt: later,
				Locks: 1,
			}
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

func TestUnlinkedAndDamagedBlobsAreAbsent(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		var all, want []string
		update(t, db, func(tx *metadb.Tx) error {
			for i := range 1200 { // more than one statement takes
				d := string(rune(0x4e00 + i))
				all = append(all, d)
				if err := tx.PutBlob(metadb.Blob{Digest: d, CreatedAt: epoch}); err != nil {
					return err
				}
				if i%3 == 0 {
					want = append(want, d)
					continue
				}
				if err := tx.LinkBlob("a", d, noon); err != nil {
					return err
				}
				if i%5 == 0 {
					want = append(want, d)
					if _, err := tx.DamageBlob(metadb.Damage{Digest: d}); err != nil {
						return err
					}
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

// TestGarbageIsOldUnlinkedAndUnleased takes away one reason to keep
// a blob at a time.
func TestGarbageIsOldUnlinkedAndUnleased(t *testing.T) {
	young, old := noon.Add(time.Hour), noon.Add(-time.Hour)
	const never = 0
	for name, tc := range map[string]struct {
		stored, linked, lease metadb.Uptime
		referencedBy          string
		want                  bool
	}{
		"garbage":                   {old, old, never, "", true},
		"young blob":                {young, never, never, "", false},
		"young link":                {old, young, never, "", false},
		"leased":                    {old, old, noon, "", false},
		"lease has ended":           {old, old, noon - 1, "", true},
		"leased without a link":     {old, never, noon, "", false},
		"referenced":                {old, old, never, "a", false},
		"referenced elsewhere only": {old, old, never, "b", true},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
				update(t, db, func(tx *metadb.Tx) error {
					if err := tx.PutBlob(metadb.Blob{Digest: "x", StoredAt: tc.stored}); err != nil {
						return err
					}
					if tc.linked != never {
						if err := tx.LinkBlob("a", "x", tc.linked); err != nil {
							return err
						}
					}
					if tc.lease != never {
						if err := tx.Lease("holder", "x", tc.lease); err != nil {
							return err
						}
					}
					if tc.referencedBy != "" {
						_, err := tx.PutManifest(metadb.Manifest{Repository: tc.referencedBy, Digest: "m",
							Payload: []byte("{}")}, []metadb.Child{{Digest: "x"}})
						return err
					}
					return nil
				})
				update(t, db, func(tx *metadb.Tx) error {
					if _, err := tx.UnlinkUnreferenced(metadb.StaleLink{Before: noon, BeforePush: noon, Written: noon},
						noon); err != nil {
						return err
					}
					garbage, err := tx.Garbage(noon, noon, 10)
					if err != nil {
						return err
					}
					if got := len(garbage) == 1; got != tc.want {
						t.Errorf("garbage: %v, want %v", got, tc.want)
					}
					gone, err := tx.DeleteIfGarbage("x", noon, noon)
					if gone != tc.want {
						t.Errorf("deleted: %v, want %v", gone, tc.want)
					}
					return err
				})
			})
		})
	}
}
