package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func small(repository, content string) storage.SmallBlob {
	return storage.SmallBlob{Repository: repository, Digest: digest.FromString(content), Data: []byte(content)}
}

func TestSmallBlobsAreStoredTogether(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		if err := f.PutBlobs(t.Context(), small("a", "x"), small("b", "x"), small("a", "y"),
			small("a", "y")); err != nil {
			t.Fatal(err)
		}
		if err := f.PutBlobs(t.Context(), small("b", "y"), small("a", "z")); err != nil { // y is here
			t.Fatal(err)
		}
		for _, want := range []storage.SmallBlob{small("a", "x"), small("b", "x"), small("a", "y"), small("b", "y"),
			small("a", "z")} {
			if got := f.content(t, want.Repository, want.Digest); got != string(want.Data) {
				t.Errorf("%s has %q, want %q", want.Repository, got, want.Data)
			}
		}
	})
}

// TestOneRefusedSmallBlobLeavesNone has one of three blobs refused: first because of its
// content, then by the database.
func TestOneRefusedSmallBlobLeavesNone(t *testing.T) {
	storagetest.OnlyFiles(t)
	f, _, raw := onDisk(t)
	refused := small("a", "refused")
	_, err := raw.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON blobs WHEN NEW.digest = '` + refused.Digest.String() +
		`' BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	if err != nil {
		t.Fatal(err)
	}
	wrong := storage.SmallBlob{Repository: "a", Digest: digest.FromString("right"), Data: []byte("wrong")}
	if err := f.PutBlobs(t.Context(), small("a", "x"), wrong); !errors.Is(err, oci.ErrDigestInvalid) {
		t.Errorf("PutBlobs of wrong content = %v, want %v", err, oci.ErrDigestInvalid)
	}
	if err := f.PutBlobs(t.Context(), small("a", "x"), refused, small("b", "y")); err == nil {
		t.Error("PutBlobs stored what the database refuses")
	}
	for _, dir := range []string{"blobs/sha256", "partial"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, dir))
		if err != nil || len(entries) > 0 {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	for _, b := range []storage.SmallBlob{small("a", "x"), refused, small("b", "y")} {
		if _, err := f.StatBlob(t.Context(), b.Repository, b.Digest); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("%s has %s: %v", b.Repository, b.Data, err)
		}
	}
}
