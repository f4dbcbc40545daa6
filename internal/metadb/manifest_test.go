package metadb_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestManifestIsReadByteForByteAndWrittenOnce(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		want := metadb.Manifest{
			Repository: "a", Digest: "m", MediaType: "type", ArtifactType: "artifact", Subject: "s",
			Annotations: `{"k":"v"}`, Payload: []byte("{\x00\xff \n}"), Size: 6, PushedAt: epoch,
		}
		children := []metadb.Child{{Digest: "blob"}, {Digest: "child", Manifest: true}}
		for i := range 1100 {
			children = append(children, metadb.Child{Digest: fmt.Sprintf("layer%04d", i)})
		}
		update(t, db, func(tx *metadb.Tx) error {
			added, err := tx.PutManifest(want, append(children, children[0])) // a layer may come twice
			if !added || err != nil {
				t.Errorf("PutManifest = %v, %v; want true", added, err)
			}
			again := want
			again.MediaType, again.PushedAt = "other", epoch.Add(time.Hour)
			added, err = tx.PutManifest(again, nil)
			if added {
				t.Error("the same manifest is new a second time")
			}
			return errors.Join(err, tx.SetTag("a", "t", "m", 0, epoch), tx.SetTagLocks("a", "t", 2, 0),
				tx.TouchRepository("a", epoch), tx.SetRepositoryLocks("a", 1))
		})
		view(t, db, func(tx *metadb.Tx) error {
			listing := want // only a listing of referrers has annotations
			listing.Payload = nil
			want.Annotations = ""
			byDigest, err := tx.Manifest("a", "m")
			if diff := cmp.Diff(want, byDigest); diff != "" {
				t.Error(diff)
			}
			pulled := want
			pulled.Locks = 1 | 2
			byTag, tagErr := tx.ManifestByTag("a", "t")
			if diff := cmp.Diff(pulled, byTag); diff != "" {
				t.Error(diff)
			}
			pulled.Locks = 1
			again, pullErr := tx.ManifestByDigest("a", "m")
			if diff := cmp.Diff(pulled, again); diff != "" {
				t.Error(diff)
			}
			head := want
			head.Payload = nil
			listed, listErr := tx.Manifests("a", "", 10)
			if diff := cmp.Diff([]metadb.Manifest{head}, listed); diff != "" {
				t.Error(diff)
			}
			referrers, refErr := tx.Referrers("a", "s", "", "", 10)
			if diff := cmp.Diff([]metadb.Manifest{listing}, referrers); diff != "" {
				t.Error(diff)
			}
			got, childErr := tx.Children("a", "m")
			if diff := cmp.Diff(children, got); diff != "" {
				t.Error(diff)
			}
			absent, absentErr := tx.AbsentManifests("a", []string{"n", "m"})
			if diff := cmp.Diff([]string{"n"}, absent); diff != "" {
				t.Error(diff)
			}
			return errors.Join(err, tagErr, pullErr, listErr, refErr, childErr, absentErr)
		})
	})
}

func TestUnreferencedManifestsHaveNeitherTagNorIndex(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		update(t, db, func(tx *metadb.Tx) error {
			for _, d := range []string{"child", "index", "unreferenced", "tagged"} {
				var children []metadb.Child
				if d == "index" {
					children = []metadb.Child{{Digest: "child", Manifest: true},
						{Digest: "unreferenced"}} // the second is a blob of that digest
				}
				if _, err := tx.PutManifest(metadb.Manifest{Repository: "a", Digest: digest.Digest(d),
					Payload: []byte("{}")}, children); err != nil {
					return err
				}
			}
			return errors.Join(tx.SetTag("a", "t", "tagged", 0, epoch), tx.SetTag("b", "t", "unreferenced", 0, epoch))
		})
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.UnreferencedManifests("a", "", 10)
			var got []string
			for _, m := range all {
				got = append(got, string(m.Digest))
			}
			want := []string{"index", "unreferenced"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for _, d := range []string{"child", "index", "unreferenced", "tagged"} {
				unreferenced, err := tx.IsUnreferenced("a", d)
				if err != nil {
					return err
				}
				if unreferenced != slices.Contains(want, d) {
					t.Errorf("IsUnreferenced(%s) = %v", d, unreferenced)
				}
			}
			parent, parentErr := tx.ParentOf("a", "child")
			if parent != "index" {
				t.Errorf("parent of the child is %q", parent)
			}
			return errors.Join(err, parentErr)
		})
	})
}

func TestBlobsOfADeletedManifestAreYoungAgain(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		now := noon.Add(time.Hour)
		update(t, db, func(tx *metadb.Tx) error {
			for _, d := range []string{"its", "other"} {
				if err := errors.Join(tx.PutBlob(metadb.Blob{Digest: d}), tx.LinkBlob("a", d, noon)); err != nil {
					return err
				}
			}
			_, err := tx.PutManifest(metadb.Manifest{Repository: "a", Digest: "m", Payload: []byte("{}")},
				[]metadb.Child{{Digest: "its"}})
			return errors.Join(err, tx.TouchRepository("a", epoch), tx.DeleteManifest("a", "m", now))
		})
		view(t, db, func(tx *metadb.Tx) error {
			for d, want := range map[string]metadb.Uptime{"its": now, "other": noon} {
				b, err := tx.RepositoryBlob("a", d)
				if err != nil {
					return err
				}
				if b.LinkedAt != want {
					t.Errorf("link of %s is from %v, want %v", d, b.LinkedAt, want)
				}
			}
			referenced, err := tx.BlobReferenced("a", "its")
			if referenced {
				t.Error("the manifest is gone and refers to its blob")
			}
			return err
		})
	})
}
