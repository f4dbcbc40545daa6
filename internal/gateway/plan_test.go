package gateway_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// plan returns the entries for the wanted manifests of app/a.
func (f *fixture) plan(t *testing.T, want, have []digest.Digest) []replication.PlanEntry {
	t.Helper()
	of := func(all []digest.Digest) (wants []replication.Ref) {
		for _, d := range all {
			wants = append(wants, replication.Ref{Repository: "app/a", Digest: d})
		}
		return wants
	}
	var entries []replication.PlanEntry
	err := f.client.Plan(t.Context(), of(want), of(have), func(e replication.PlanEntry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// manifestsOf returns the manifests of a plan, in its order.
func manifestsOf(entries []replication.PlanEntry) (all []digest.Digest) {
	for _, e := range entries {
		if e.Manifest != nil {
			all = append(all, e.Manifest.Digest)
		}
	}
	return all
}

func TestPlanIsInDependencyOrder(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		amd64, arm64 := f.image("app/a", "amd64"), f.image("app/a", "arm64")
		index := f.index("app/a", []digest.Digest{amd64, arm64}, "v1")
		sbom := f.referrer("app/a", "sbom", amd64)
		signature := f.referrer("app/a", "signature", sbom)
		entries := f.plan(t, []digest.Digest{index}, nil)
		if diff := cmp.Diff([]digest.Digest{amd64, sbom, signature, arm64, index}, manifestsOf(entries)); diff != "" {
			t.Error(diff)
		}
		seen := map[digest.Digest]bool{}
		for _, e := range entries {
			switch {
			case e.Blob != nil:
				seen[e.Blob.Digest] = true
			case e.Manifest != nil:
				if d := digest.FromBytes(e.Manifest.Payload); d != e.Manifest.Digest {
					t.Errorf("payload of %s has digest %s", e.Manifest.Digest, d)
				}
				for _, d := range blobsOf(t, e.Manifest) {
					if !seen[d] {
						t.Errorf("manifest %s came before its blob %s", e.Manifest.Digest, d)
					}
				}
			}
		}
	})
}

func TestPlanOmitsPresentAndRepeatedContent(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	old, young := f.image("app/a", "same"), f.image("app/a", "new")
	index := f.index("app/a", []digest.Digest{old, young}, "v1")
	entries := f.plan(t, []digest.Digest{index, index, young}, []digest.Digest{old})
	if diff := cmp.Diff([]digest.Digest{young, index}, manifestsOf(entries)); diff != "" {
		t.Error(diff)
	}
	if len(entries) != 7 { // with two blobs, and an end for each wanted manifest
		t.Errorf("%d entries, want 7", len(entries))
	}
}

// A child whose plan was cut between two referrers has their subject, and still
// gets the other referrers.
func TestPlanHasReferrersOfPresentManifests(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	d := f.image("app/a", "1", "v1")
	first, second := f.referrer("app/a", "2", d), f.referrer("app/a", "3", d)
	entries := f.plan(t, []digest.Digest{d}, []digest.Digest{d, first})
	if diff := cmp.Diff([]digest.Digest{second}, manifestsOf(entries)); diff != "" {
		t.Error(diff)
	}
	last := entries[len(entries)-1]
	if last.Complete == nil || *last.Complete != (replication.Ref{Repository: "app/a", Digest: d}) {
		t.Errorf("the last entry is %+v, want that the wanted manifest is complete", last)
	}
}

func TestPlanHasSmallBlobsInline(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	small := bytes.Repeat([]byte("s"), wire.InlineLimit)
	image := f.Image("app/a", string(small), bytes.Repeat([]byte("l"), wire.InlineLimit+1), nil)
	large, d := image.Layers[0], f.Push("app/a", image).Digest
	for _, e := range f.plan(t, []digest.Digest{d}, nil) {
		if e.Blob == nil {
			continue
		}
		inline := e.Blob.Digest != large.Digest
		if inline && int64(len(e.Blob.Data)) != e.Blob.Size || inline == e.Blob.Batch {
			t.Errorf("blob of %d bytes: %d bytes inline, in a batch %v", e.Blob.Size, len(e.Blob.Data), e.Blob.Batch)
		}
	}
}

func TestPlanNamesMissingContent(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	secret := f.image("secret/a", "1", "v1")
	absent := digest.FromString("absent")
	var missing []string
	err := f.client.Plan(t.Context(),
		[]replication.Ref{{Repository: "secret/a", Digest: secret}, {Repository: "app/a", Digest: absent},
			{Repository: "../..", Digest: absent}}, nil,
		func(e replication.PlanEntry) error {
			if e.Complete != nil {
				return nil
			}
			if e.Missing == nil {
				t.Errorf("entry %v, want only what is missing", e)
				return nil
			}
			missing = append(missing, e.Missing.Repository)
			return nil
		})
	if diff := cmp.Diff([]string{"secret/a", "app/a", "../.."}, missing); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestTooLargePlanRequestIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	err := f.client.Plan(t.Context(), make([]replication.Ref, 1001), nil,
		func(replication.PlanEntry) error { return nil })
	if code := codeOf(err); code != "INVALID" {
		t.Errorf("plan = %v, want INVALID", err)
	}
}

func TestAbortedPlanKeepsItsFirstEntries(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	good, bad := f.image("app/a", "1"), digest.FromString("{")
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		_, err := tx.PutManifest(metadb.Manifest{Repository: "app/a", Digest: bad,
			MediaType: oci.MediaTypeImageManifest, Payload: []byte("{")}, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var entries []replication.PlanEntry
	err = f.client.Plan(t.Context(),
		[]replication.Ref{{Repository: "app/a", Digest: good}, {Repository: "app/a", Digest: bad}}, nil,
		func(e replication.PlanEntry) error {
			entries = append(entries, e)
			return nil
		})
	if err == nil {
		t.Error("an aborted plan was taken for complete")
	}
	if diff := cmp.Diff([]digest.Digest{good}, manifestsOf(entries)); diff != "" {
		t.Error(diff)
	}
}

// large pushes an image whose manifest is too large to be in one row, and returns its payload.
func (f *fixture) large(repository, seed string, tags ...string) []byte {
	m := f.manifest(repository, seed)
	m.Annotations = map[string]string{"long": strings.Repeat("x", 1<<20)}
	f.Push(repository, m, tags...)
	return m.Payload()
}

func TestPlanHasLargeManifestsByteForByte(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		want := f.large("app/a", "large")
		signature := f.referrer("app/a", "signature", digest.FromBytes(want))
		entries := f.plan(t, []digest.Digest{digest.FromBytes(want)}, nil)
		if diff := cmp.Diff([]digest.Digest{digest.FromBytes(want), signature}, manifestsOf(entries)); diff != "" {
			t.Error(diff)
		}
		for _, e := range entries {
			if e.Manifest != nil && e.Manifest.Digest != signature && !bytes.Equal(e.Manifest.Payload, want) {
				t.Errorf("it comes with %d of %d bytes", len(e.Manifest.Payload), len(want))
			}
		}
	})
}
