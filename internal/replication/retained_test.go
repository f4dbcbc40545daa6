package replication_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// Three tags name a manifest that fails permanently: two that moved to it, and a new one. The
// old images of the moved tags stay with everything that belongs to them.
func TestPermanentFailureRetainsOnlyItsOldContent(t *testing.T) {
	for name, test := range map[string]struct {
		missing replication.PlanMissing
		syncs   int // until the failure counts as permanent
	}{
		"an unsupported format":            {replication.PlanMissing{Reason: "schema 1", Unsupported: true}, 1},
		"a manifest that the parent lacks": {replication.PlanMissing{Reason: "manifest unknown"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParent(t)
			ctx := t.Context()
			old := p.image("app", [][]byte{randomBytes(1, 20<<10)}, "moves")
			child := p.image("app", [][]byte{randomBytes(2, 20<<10)})
			oldIndex := p.index("app", []oci.Descriptor{child}, "index")
			referrer := p.referrer("app", old, randomBytes(3, 100))
			signature := "sha256-" + child.Digest.Encoded() + ".sig"
			p.image("app", [][]byte{randomBytes(4, 100)}, signature)
			gone := p.image("app", [][]byte{randomBytes(5, 20<<10)}, "leaves")
			p.referrer("app", gone, randomBytes(6, 100))
			r := newReplica(t, p, replication.Options{})
			r.follow()
			r.sync()

			refused := p.image("app", [][]byte{randomBytes(7, 20<<10)}, "moves", "index", "new")
			for _, tag := range []string{"leaves", signature} {
				if err := p.DeleteTag(ctx, "app", tag); err != nil {
					t.Fatal(err)
				}
			}
			p.image("app", [][]byte{randomBytes(8, 20<<10)}, "comes")
			r.relist()
			src := &planSource{Source: r.source, edit: func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if e.Manifest != nil && e.Manifest.Digest == refused.Digest {
					missing := test.missing
					missing.Ref = e.Manifest.Ref
					e = replication.PlanEntry{Missing: &missing}
				}
				return e, nil
			}}
			for i := range test.syncs {
				if i > 0 && !slices.Contains(r.tags(), "app:leaves") {
					t.Errorf("content was removed after %d Syncs", i)
				}
				if result, err := r.Sync(ctx, src); err != nil || result.Failed != 3 {
					t.Fatalf("Sync = %+v, %v", result, err)
				}
			}
			if diff := cmp.Diff([]string{"app:comes", "app:index", "app:moves", "app:" + signature},
				r.tags()); diff != "" {
				t.Error(diff)
			}
			for name, d := range map[string]digest.Digest{
				"old image": old.Digest, "its referrer": referrer.Digest, "old index": oldIndex.Digest,
				"its child": child.Digest,
			} {
				if has, err := r.HasManifest(ctx, "app", d); !has || err != nil {
					t.Errorf("%s: HasManifest = %v, %v", name, has, err)
				}
			}
			if all, err := r.Manifests(ctx, "app", storage.ManifestOrder{}, "", 100); err != nil || len(all) != 6 {
				t.Errorf("%d manifests are stored, %v; want 6", len(all), err)
			}
			if items := strings.Join(r.items(), "\n"); strings.Count(items,
				"failed "+"manifest "+string(refused.Digest)) != 3 {
				t.Errorf("items are\n%s\nwant three that failed", items)
			}

			r.sync() // the parent sends it now
			if diff := cmp.Diff([]string{"app:comes", "app:index", "app:moves", "app:new"}, r.tags()); diff != "" {
				t.Error(diff)
			}
			assertInSync(t, p, r.Storage)
		})
	}
}
