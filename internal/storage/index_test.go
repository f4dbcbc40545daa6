package storage_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

func TestIndexHoldsTheChildrenOfItsLastPut(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		here, other := f.pushImage(t, "a", "v1").Digest, f.pushImage(t, "a", "v2").Digest
		for _, tag := range []string{"v1", "v2"} {
			if err := f.DeleteTag(ctx, "a", tag); err != nil {
				t.Fatal(err)
			}
		}
		payload := index(here, other)
		inner := digest.FromBytes(payload)
		put := func(payload []byte, left ...digest.Digest) {
			t.Helper()
			if _, err := f.PutManifest(ctx, storage.Put{Repository: "a", Payload: payload, Omitted: left}); err != nil {
				t.Fatal(err)
			}
		}
		checkUnreferenced := func(want bool) {
			t.Helper()
			if got, err := f.IsUnreferenced(ctx, "a", other); got != want || err != nil {
				t.Errorf("IsUnreferenced = %t, %v; want %t", got, err, want)
			}
		}
		held := func(want ...digest.Digest) {
			t.Helper()
			got, err := f.HeldChildren(ctx, "a", inner)
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" || err != nil {
				t.Errorf("held: %v, %s", err, diff)
			}
		}
		put(payload, other)
		outer := index(inner)
		put(outer)
		held(here)
		checkUnreferenced(true)
		before := f.head(t)
		put(payload, other)
		if head := f.head(t); head != before {
			t.Errorf("what changed nothing is change %d", head)
		}
		put(payload)
		held(here, other)
		checkUnreferenced(false)
		if all, _, _ := f.entries(t, before); len(all) != 1 || all[0].RelistSeq != before+1 {
			t.Errorf("the feed has %v: whoever has the index must get a complete listing", all)
		}
		if err := f.DeleteManifest(ctx, "a", other); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("DeleteManifest of what an index holds = %v, want %v", err, oci.ErrDenied)
		}
		put(payload, other)
		if err := f.DeleteManifest(ctx, "a", other); err != nil {
			t.Errorf("DeleteManifest of what was left out = %v", err)
		}
		if m, err := f.Manifest(ctx, "a", string(inner)); err != nil || string(m.Payload) != string(payload) {
			t.Errorf("the index is %v, %v", m, err)
		}
		if _, err := f.PutManifest(ctx, storage.Put{Repository: "a", Payload: payload}); !errors.Is(err,
			oci.ErrManifestBlobUnknown) {
			t.Errorf("PutManifest without a child that is not left out = %v, want %v", err, oci.ErrManifestBlobUnknown)
		}
		held(here)
	})
}
