package storage_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func index(children ...digest.Digest) []byte {
	m := storagetest.Index()
	for _, d := range children {
		m.Manifests = append(m.Manifests, storagetest.Reference(d))
	}
	return m.Payload()
}

func referrer(config, subject digest.Digest, artifactType string) []byte {
	return storagetest.Manifest{
		ArtifactType: artifactType,
		Config:       &oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: config, Size: 2},
		Subject:      new(storagetest.Reference(subject)),
		Annotations:  map[string]string{"of": artifactType},
	}.Payload()
}

// head returns the sequence number of the last change.
func (f *fixture) head(t *testing.T) int64 {
	t.Helper()
	_, head, _ := f.entries(t, 0)
	return head
}

func TestManifestIsServedByteForByteUnderItsDigest(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		d := f.push(t, "a", []byte("content"))
		payload := append([]byte(" \n\t"), image(d, d)...)
		payload = append(payload, "\r\n "...)
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			of := algorithm.FromBytes(payload)
			tag := "as-" + string(algorithm)
			put, err := f.PutManifest(ctx,
				storage.Put{Repository: "a", Payload: payload, Digest: of, Tags: []string{tag}})
			if err != nil {
				t.Fatal(err)
			}
			if put.Digest != of {
				t.Errorf("PutManifest returned %s, want %s", put.Digest, of)
			}
			for _, reference := range []string{string(of), tag} {
				for range 2 { // from the database, then from the cache
					m, err := f.Manifest(ctx, "a", reference)
					if err != nil {
						t.Fatal(err)
					}
					if m.Digest != of || m.MediaType != oci.MediaTypeImageManifest ||
						string(m.Payload) != string(payload) || m.Size != int64(len(payload)) {
						t.Errorf("%s is %s, %s, %q", reference, m.Digest, m.MediaType, m.Payload)
					}
				}
			}
		}
	})
}

func TestBadManifestLeavesNoTrace(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		here, missing, other := f.push(t, "a", []byte("here")), digest.FromString("missing"), f.push(t, "b",
			[]byte("of another repository"))
		good := image(here, here)
		feed := f.head(t)
		for name, tc := range map[string]struct {
			put  storage.Put
			want *oci.Error
		}{
			"wrong digest": {storage.Put{Payload: good, Digest: missing}, oci.ErrDigestInvalid},
			"wrong sha512": {storage.Put{Payload: good, Digest: digest.SHA512.FromString("missing")},
				oci.ErrDigestInvalid},
			"malformed digest": {storage.Put{Payload: good, Digest: "sha256:12"}, oci.ErrDigestInvalid},
			"malformed tag": {storage.Put{Payload: good, Tags: []string{"good", "-bad"}},
				oci.ErrTagInvalid},
			"malformed repository": {storage.Put{Payload: good, Repository: "A"}, oci.ErrNameInvalid},
			"other media type": {storage.Put{Payload: good, MediaType: oci.MediaTypeImageIndex},
				oci.ErrManifestInvalid},
			"no JSON":                    {storage.Put{Payload: []byte("{")}, oci.ErrManifestInvalid},
			"too large":                  {storage.Put{Payload: make([]byte, oci.MaxManifestSize+1)}, oci.ErrTooLarge},
			"missing blob":               {storage.Put{Payload: image(here, missing)}, oci.ErrManifestBlobUnknown},
			"blob of another repository": {storage.Put{Payload: image(here, other)}, oci.ErrManifestBlobUnknown},
			"missing manifest":           {storage.Put{Payload: index(missing)}, oci.ErrManifestBlobUnknown},
			"a blob as a manifest":       {storage.Put{Payload: index(here)}, oci.ErrManifestBlobUnknown},
		} {
			t.Run(name, func(t *testing.T) {
				if tc.put.Repository == "" {
					tc.put.Repository = "a"
				}
				if tc.put.Tags == nil {
					tc.put.Tags = []string{"good"}
				}
				if _, err := f.PutManifest(ctx, tc.put); !errors.Is(err, tc.want) {
					t.Errorf("PutManifest = %v, want %v", err, tc.want)
				}
				if _, err := f.Manifest(ctx, "a", "good"); !errors.Is(err, oci.ErrManifestUnknown) {
					t.Errorf("Manifest = %v, want %v", err, oci.ErrManifestUnknown)
				}
			})
		}
		if diff := cmp.Diff(feed, f.head(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRefusalNamesEveryMissingChild(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		config, layer := digest.FromString("config"), digest.SHA512.FromString("layer")
		_, err := f.PutManifest(t.Context(), storage.Put{Repository: "a", Payload: image(config, layer)})
		e := oci.AsError(err)
		if e == nil {
			t.Fatalf("PutManifest = %v", err)
		}
		want := map[string][]string{"missing": {string(config), string(layer)}}
		if diff := cmp.Diff(want, e.Detail); diff != "" {
			t.Error(diff)
		}
	})
}

func TestIndexMayLackOnlyOmittedChildren(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		here, filtered, missing := f.pushImage(t, "a",
			"v1").Digest, digest.FromString("filtered"), digest.FromString("missing")
		left := []digest.Digest{filtered}
		_, err := f.PutManifest(ctx,
			storage.Put{Repository: "a", Payload: index(here, filtered, missing), Omitted: left})
		if !errors.Is(err, oci.ErrManifestBlobUnknown) {
			t.Errorf("PutManifest = %v, want %v", err, oci.ErrManifestBlobUnknown)
		}
		if _, err := f.PutManifest(ctx,
			storage.Put{Repository: "a", Payload: index(here, here, filtered), Omitted: left}); err != nil {
			t.Error(err)
		}
		for d, why := range map[digest.Digest]string{filtered: "not for this platform", missing: ""} {
			_, err := f.Manifest(ctx, "a", string(d))
			if !errors.Is(err, oci.ErrManifestUnknown) ||
				(why == "") != (oci.AsError(err).Message == oci.ErrManifestUnknown.Message) ||
				!strings.Contains(err.Error(), why) {
				t.Errorf("Manifest = %v, want %v that says %q", err, oci.ErrManifestUnknown, why)
			}
		}
		if held, err := f.HeldChildren(ctx, "a", digest.FromBytes(index(here, here, filtered))); err != nil ||
			!slices.Equal(held, []digest.Digest{here}) {
			t.Errorf("Held = %v, %v", held, err)
		}
	})
}

// TestTagsMoveTogetherOrNotAtAll has the last of three tags refuse.
func TestTagsMoveTogetherOrNotAtAll(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		v1 := f.pushImage(t, "a", "v1")
		for _, tag := range []string{"latest", "locked"} {
			if err := f.SetTag(ctx, "a", tag, v1.Digest); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.ChangeLocks(ctx, "a", "locked", storage.LockChange{Set: storage.NoWrite}); err != nil {
			t.Fatal(err)
		}
		feed := f.head(t)
		d := f.push(t, "a", []byte("v2"))
		payload := image(d, d)
		_, err := f.PutManifest(ctx,
			storage.Put{Repository: "a", Payload: payload, Tags: []string{"new", "latest", "locked"}})
		if !errors.Is(err, oci.ErrDenied) {
			t.Fatalf("PutManifest = %v, want %v", err, oci.ErrDenied)
		}
		for reference, want := range map[string]error{"new": oci.ErrManifestUnknown,
			string(digest.FromBytes(payload)): oci.ErrManifestUnknown, "latest": nil} {
			m, err := f.Manifest(ctx, "a", reference)
			if !errors.Is(err, want) || err == nil && m.Digest != v1.Digest {
				t.Errorf("%s = %v, %v; want %v", reference, m, err, want)
			}
		}
		if diff := cmp.Diff(feed, f.head(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestKeptTagDoesNotMove(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		v1, v2 := f.pushImage(t, "a", "v1"), f.pushImage(t, "a", "v2")
		for _, step := range []struct {
			add  digest.Digest
			want error
		}{{v1.Digest, nil}, {v1.Digest, nil}, {v2.Digest, oci.ErrDenied}} {
			kept := storage.Image{Repository: "a", Root: step.add, Tags: []string{"latest"}, KeepTags: true}
			if err := f.PutImages(ctx, []storage.Image{kept}, func(*metadb.Tx) error { return nil }); !errors.Is(err,
				step.want) {
				t.Errorf("a tag for %s: %v, want %v", step.add, err, step.want)
			}
			if m, err := f.Manifest(ctx, "a", "latest"); err != nil || m.Digest != v1.Digest {
				t.Errorf("latest = %v, %v; want %s", m, err, v1.Digest)
			}
		}
	})
}

func TestDeletingAManifestDeletesItsTags(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		m := f.pushImage(t, "a", "v1")
		if err := f.SetTag(ctx, "a", "latest", m.Digest); err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteManifest(ctx, "a", m.Digest); err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{"v1", "latest", string(m.Digest)} {
			if _, err := f.Manifest(ctx, "a", reference); !errors.Is(err, oci.ErrManifestUnknown) {
				t.Errorf("%s = %v, want %v", reference, err, oci.ErrManifestUnknown)
			}
		}
		want := []string{"latest", string(m.Digest), "v1"}
		if diff := cmp.Diff(want, f.removed(t, "a", 0)); diff != "" {
			t.Error(diff)
		}
		if err := f.DeleteManifest(ctx, "a", m.Digest); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("a second DeleteManifest = %v, want %v", err, oci.ErrManifestUnknown)
		}
	})
}

func TestNeededContentCannotBeDeleted(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		m := f.pushImage(t, "a", "v1")
		list, err := f.PutManifest(ctx, storage.Put{Repository: "a", Payload: index(m.Digest), Tags: []string{"list"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteManifest(ctx, "a", m.Digest); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("DeleteManifest of an index's child = %v, want %v", err, oci.ErrDenied)
		}
		if err := f.DeleteBlob(ctx, "a", digest.FromString("layer v1")); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("DeleteBlob of a manifest's layer = %v, want %v", err, oci.ErrDenied)
		}
		for _, d := range []digest.Digest{list.Digest, m.Digest} {
			if err := f.DeleteManifest(ctx, "a", d); err != nil {
				t.Error(err)
			}
		}
		if err := f.DeleteBlob(ctx, "a", digest.FromString("layer v1")); err != nil {
			t.Error(err)
		}
	})
}

func TestReferrersAreListedWithAndWithoutTheirSubject(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		empty := f.push(t, "a", []byte("{}"))
		subject := digest.SHA512.FromString("not here")
		var all []oci.Descriptor
		for _, artifactType := range []string{"text/signature", "text/sbom"} {
			f.now = f.now.Add(1e9)
			payload := referrer(empty, subject, artifactType)
			m, err := f.PutManifest(ctx, storage.Put{Repository: "a", Payload: payload})
			if err != nil {
				t.Fatal(err)
			}
			if m.Subject != subject {
				t.Errorf("subject is %q, want %q", m.Subject, subject)
			}
			all = append(all, oci.Descriptor{
				MediaType: oci.MediaTypeImageManifest, Digest: digest.FromBytes(payload), Size: int64(len(payload)),
				ArtifactType: artifactType, Annotations: map[string]string{"of": artifactType},
			})
		}
		for filter, want := range map[string][]oci.Descriptor{"": all, "text/sbom": all[1:], "text/other": nil} {
			got, err := f.Referrers(ctx, "a", subject, storage.ReferrerPage{ArtifactType: filter, Limit: 10})
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("Referrers of type %q: %v %s", filter, err, diff)
			}
		}
		page := storage.ReferrerPage{Limit: 1}
		for _, want := range all {
			got, err := f.Referrers(ctx, "a", subject, page)
			if diff := cmp.Diff([]oci.Descriptor{want}, got); diff != "" || err != nil {
				t.Errorf("page behind %q: %v %s", page.After, err, diff)
			}
			page.After = want.Digest
		}
		if got, err := f.Referrers(ctx, "a", subject, page); len(got) > 0 || err != nil {
			t.Errorf("page behind the last: %v, %v", got, err)
		}
		page.After = digest.FromString("gone")
		if got, err := f.Referrers(ctx, "a", subject, page); err != nil || len(got) != 1 ||
			got[0].Digest != all[0].Digest {
			t.Errorf("page behind one that is gone: %v, %v", got, err)
		}
		if got, err := f.ReferrerDigests(ctx, "a", subject); err != nil || len(got) != 2 || got[0] != all[0].Digest {
			t.Errorf("digests %v, %v", got, err)
		}
		if got, err := f.ReferrerDigests(ctx, "b", subject); len(got) > 0 || err != nil {
			t.Errorf("Referrers in another repository = %v, %v", got, err)
		}
	})
}
