package replication_test

import (
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// spoil corrupts a blob on the replica's disk and has storage find the damage.
func (r *replica) damage(repository string, content []byte) {
	r.t.Helper()
	d := digest.FromBytes(content)
	file, _, err := r.OpenBlob(r.t.Context(), repository, d)
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	if err := os.Truncate(file.(*os.File).Name(), 1); err != nil {
		r.t.Fatal(err)
	}
	if reason, err := r.VerifyBlob(r.t.Context(), d, storage.Unpaced); reason == "" || err != nil {
		r.t.Fatalf("VerifyBlob = %q, %v", reason, err)
	}
	if _, err := os.Stat(file.(*os.File).Name()); !errors.Is(err, os.ErrNotExist) {
		r.t.Errorf("the damaged file still exists: %v", err)
	}
}

// Only the damaged blob is fetched again.
func TestDamagedContentIsFetchedAgain(t *testing.T) {
	const size = 300 << 10
	amd, arm, single, signature := randomBytes(1, size), randomBytes(2, size), randomBytes(3, size), []byte("signature")
	for name, damage := range map[string]struct {
		content []byte
		cost    int64
		pending int // items
	}{
		"a layer of an image":             {single, size, 1},
		"a layer of an image of an index": {arm, size, 1},
		"a layer of a referrer":           {signature, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParent(t)
			p.image("a", [][]byte{single}, "v1")
			index := p.index("a", []oci.Descriptor{p.image("a", [][]byte{amd}), p.image("a", [][]byte{arm})}, "v2")
			p.referrer("a", index, signature)
			r := newReplica(t, p, replication.Options{})
			r.follow()
			r.sync()
			r.damage("a", damage.content)
			if _, pending, _, err := r.Counts(t.Context()); pending != damage.pending || err != nil {
				t.Errorf("%d items are pending, %v; want %d", pending, err, damage.pending)
			}
			result := r.sync()
			assertInSync(t, p, r.Storage)
			if n := result.Received; n < damage.cost || n > damage.cost+1<<10 { // configs come with the plan
				t.Errorf("%d bytes were received, want %d and configs", n, damage.cost)
			}
			if sum, err := metadb.Read(t.Context(), r.db, (*metadb.Tx).TotalOfDamages); sum.Count != 0 || err != nil {
				t.Errorf("still damaged: %+v, %v", sum, err)
			}
		})
	}
}

func TestDamagedManifestIsFetchedAgain(t *testing.T) {
	p := newParent(t)
	layer := randomBytes(1, 300<<10)
	m := p.image("a", [][]byte{layer})
	index := p.index("a", []oci.Descriptor{m}, "v1")
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	for _, d := range []digest.Digest{m.Digest, index.Digest} {
		err := r.db.Update(t.Context(), func(tx *metadb.Tx) error {
			_, err := tx.DamageManifest(metadb.Damage{Repository: "a", Digest: string(d), Reason: "test"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		result := r.sync()
		if has, err := r.HasManifest(t.Context(), "a", d); !has || err != nil {
			t.Errorf("HasManifest = %v, %v", has, err)
		}
		if n := result.Received; n > 1<<10 {
			t.Errorf("%d bytes of blobs were received for a manifest", n)
		}
	}
	assertInSync(t, p, r.Storage)
}
