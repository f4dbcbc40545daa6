package gateway_test

import (
	"os"
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

// corrupt flips a bit of a blob on the parent's disk.
func (f *fixture) corrupt(repository string, d digest.Digest) {
	f.T.Helper()
	file, _, err := f.OpenBlob(f.T.Context(), repository, d)
	if err != nil {
		f.T.Fatal(err)
	}
	defer file.Close()
	path := file.(*os.File).Name()
	content, err := os.ReadFile(path)
	if err == nil {
		content[0] ^= 1
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		f.T.Fatal(err)
	}
}

func TestPlanSaysThatASmallBlobIsDamaged(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	bad, good := f.image("app/a", "bad", "v1"), f.image("app/a", "good", "v2")
	layer := digest.FromString("layer bad")
	f.corrupt("app/a", layer)
	for range 2 { // the first plan finds the damage; the second finds the content out of service
		var missing []string
		entries := f.plan(t, []digest.Digest{bad, good}, nil)
		for _, e := range entries {
			if e.Missing != nil {
				missing = append(missing, string(e.Missing.Digest)+" "+e.Missing.Reason)
			}
		}
		if len(missing) != 1 || !strings.HasPrefix(missing[0], string(layer)) ||
			!strings.Contains(missing[0], "damaged") {
			t.Errorf("missing: %q", missing)
		}
		complete := 0
		for _, e := range entries {
			if e.Complete != nil {
				complete++
			}
		}
		if complete != 2 {
			t.Errorf("the plan is complete for %d images, want 2", complete)
		}
	}
}

func TestPlanSaysThatAManifestIsDamaged(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	good, bad := f.image("app/a", "1"), digest.FromString("as it was pushed")
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		row := metadb.Manifest{Repository: "app/a", Digest: bad, MediaType: oci.MediaTypeImageManifest,
			Payload: []byte("{")}
		_, err := tx.PutManifest(row, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	entries := f.plan(t, []digest.Digest{bad, good}, nil)
	if diff := cmp.Diff([]digest.Digest{good}, manifestsOf(entries)); diff != "" {
		t.Error(diff)
	}
	if m := entries[0].Missing; m == nil || m.Digest != bad || !strings.Contains(m.Reason, "damaged") {
		t.Errorf("the first entry is %+v", entries[0])
	}
}

// TestOnlyReadableSuspectsAreVerified has a child that also names blobs that it may not read.
func TestOnlyReadableSuspectsAreVerified(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	own := f.PushBlob("app/a", []byte("own")).Digest
	secret := f.PushBlob("secret", []byte("secret")).Digest
	q := wire.PollRequest{Suspects: []wire.Want{
		{Repository: "app/a", Digest: own},
		{Repository: "secret", Digest: secret},
		{Repository: "app/a", Digest: secret},
		{Repository: "app/a", Digest: digest.FromString("nothing")},
		{Repository: "app/../a", Digest: "sha256:x"},
	}}
	f.poll(t, q)
	if diff := cmp.Diff([]digest.Digest{own}, f.suspects); diff != "" {
		t.Error(diff)
	}
	for len(q.Suspects) < 17 {
		q.Suspects = append(q.Suspects, wire.Want(replication.Ref{Repository: "app/a", Digest: own}))
	}
	q.InstanceID = "instance"
	if _, err := f.client.Poll(t.Context(), q); err == nil || len(f.suspects) != 1 {
		t.Errorf("seventeen suspects: %v, and %d are read", err, len(f.suspects))
	}
}

func TestDamagedLargeManifestIsNotSent(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	good := f.image("app/a", "1")
	payload := f.manifest("app/a", "2").Payload()
	payload = append(payload, strings.Repeat(" ", metadb.MaxInRow)...)
	bad := digest.FromBytes(payload)
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		payload[len(payload)-1] = '\n'
		row := metadb.Manifest{Repository: "app/a", Digest: bad, MediaType: oci.MediaTypeImageManifest,
			Payload: payload}
		_, err := tx.PutManifest(row, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first plan finds the damage; the second finds the content out of service
		entries := f.plan(t, []digest.Digest{bad, good}, nil)
		if diff := cmp.Diff([]digest.Digest{good}, manifestsOf(entries)); diff != "" {
			t.Error(diff)
		}
	}
}
