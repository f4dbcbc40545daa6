package metadb_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestDamageIsListedWhileImagesNeedIt(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		damage := func(repository, d string) metadb.Damage {
			return metadb.Damage{Repository: repository, Digest: d, Size: 10, Reason: "test", FoundAt: epoch}
		}
		update(t, db, func(tx *metadb.Tx) error {
			for _, d := range []string{"unneeded", "x", "y", "z"} {
				if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 10, CreatedAt: epoch}); err != nil {
					return err
				}
			}
			for _, name := range []string{"a", "b"} {
				if err := tx.TouchRepository(name, epoch); err != nil {
					return err
				}
				row := metadb.Manifest{Repository: name, Digest: digest.Digest("m"), Annotations: "{}",
					Payload: []byte("12345"), PushedAt: epoch}
				if _, err := tx.PutManifest(row, []metadb.Child{{Digest: "x"}, {Digest: "y"}}); err != nil {
					return err
				}
				if err := tx.LinkBlob(name, "x", noon); err != nil {
					return err
				}
			}
			if err := tx.LinkBlob("a", "unneeded", noon); err != nil {
				return err
			}
			for _, d := range []metadb.Damage{
				damage("b", "m"), damage("", "x"), damage("", "z"), damage("", "unneeded"),
			} {
				take := tx.DamageBlob
				if d.Repository != "" {
					take = tx.DamageManifest
				}
				if _, err := take(d); err != nil {
					return err
				}
			}
			if _, err := tx.DamageBlob(damage("", "x")); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("x is taken out of service twice: %v", err)
			}
			if _, err := tx.DamageManifest(damage("b", "m")); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("m is taken out of service twice: %v", err)
			}
			return nil
		})
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.Damages("", "", 10)
			if diff := cmp.Diff([]metadb.Damage{damage("", "x"), damage("b", "m")}, all); diff != "" || err != nil {
				t.Error(err, diff)
			}
			if after, err := tx.Damages("", "x", 10); len(after) != 1 || err != nil {
				t.Errorf("after x come %v, %v", after, err)
			}
			damages, err := tx.TotalOfDamages()
			if damages.Count != 2 || damages.Bytes != 20 || !damages.Latest.Equal(epoch) || err != nil {
				t.Errorf("TotalOfDamages = %+v, %v", damages, err)
			}
			if blobs, err := tx.TotalOfBlobs(); blobs != (metadb.Total{Count: 1, Bytes: 10}) || err != nil {
				t.Errorf("TotalOfBlobs = %+v, %v", blobs, err)
			}
			if manifests, err := tx.TotalOfManifests(); manifests != (metadb.Total{Count: 1, Bytes: 5}) || err != nil {
				t.Errorf("TotalOfManifests = %+v, %v", manifests, err)
			}
			if rows, err := tx.ManifestsAfter("", "", 10); len(rows) != 1 || rows[0].Repository != "a" || err != nil {
				t.Errorf("ManifestsAfter = %v, %v", rows, err)
			}
			if rows, err := tx.Blobs("x", 10); len(rows) != 1 || rows[0].Digest != "y" || err != nil {
				t.Errorf("Blobs = %v, %v", rows, err)
			}
			children, err := tx.ChildBlobs("a", "m")
			if diff := cmp.Diff([]metadb.ChildBlob{{Digest: "x", Size: -1}, {Digest: "y", Size: 10}},
				children); diff != "" || err != nil {
				t.Error(err, diff)
			}
			needing, err := tx.ManifestsNeeding(damage("", "x"))
			if diff := cmp.Diff([]metadb.ManifestRef{{Repository: "a", Digest: "m"}, {Repository: "b", Digest: "m"}},
				needing); diff != "" || err != nil {
				t.Error(err, diff)
			}
			return nil
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.ForgetDamages() })
		view(t, db, func(tx *metadb.Tx) error {
			for of, want := range map[string]bool{"x": true, "unneeded": true, "z": false} {
				if knows, err := tx.KnowsBlob(of); knows != want || err != nil {
					t.Errorf("KnowsBlob(%s) = %v, %v; want %v", of, knows, err, want)
				}
			}
			return nil
		})
	})
}
