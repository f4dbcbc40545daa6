package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/server"
)

// storeOf returns where the database of an instance says that its blobs are.
func storeOf(t *testing.T, cfg config.Config) metadb.BlobStore {
	t.Helper()
	id, err := metadb.Identify(t.Context(), metadb.Options{URL: "sqlite:" + filepath.Join(cfg.DataDir, "ferry.db")})
	if err != nil {
		t.Fatal(err)
	}
	return id.Store
}

// setStore changes what the database says.
func setStore(t *testing.T, cfg config.Config, s metadb.BlobStore) {
	t.Helper()
	db, err := metadb.Open(t.Context(), "sqlite:"+filepath.Join(cfg.DataDir, "ferry.db"))
	if err == nil {
		err = db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetBlobStore(s) })
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestInstanceStartsOnlyWithTheStoreOfItsBlobs(t *testing.T) {
	cfg := configIn(t.TempDir())
	makeFilledRoot(t, cfg)
	mark := filepath.Join(cfg.DataDir, "blobs", "store-id")
	kept, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	ours := storeOf(t, cfg)
	if want := (metadb.BlobStore{Mark: strings.TrimSpace(string(kept)), Location: "files"}); ours != want {
		t.Fatalf("the database names %+v, and the directory is %+v", ours, want)
	}
	for name, test := range map[string]struct {
		store       metadb.BlobStore
		mark        string
		error, hint string
	}{
		"in a bucket": {metadb.BlobStore{Mark: "OTHER", Location: "s3://b/p"}, ours.Mark,
			"are in s3://b/p, and not in", "--blobs s3://b/p, or move the blobs: ferry blobs copy --to files"},
		"of another directory":      {ours, "OTHER", "are not those of this instance", "restore the right ones"},
		"not copied whole":          {ours, "unfinished", "is not finished", "ferry blobs copy --to files"},
		"never recorded, not whole": {metadb.BlobStore{}, "unfinished", "is not finished", "--blobs of before"},
	} {
		t.Run(name, func(t *testing.T) {
			setStore(t, cfg, test.store)
			if err := os.WriteFile(mark, []byte(test.mark), 0o600); err != nil {
				t.Fatal(err)
			}
			err := start(t, cfg, server.Options{})
			var h interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), test.error) || !errors.As(err, &h) ||
				!strings.Contains(h.Hint(), test.hint) {
				t.Fatalf("error %v, hint %v; want %q and %q", err, h, test.error, test.hint)
			}
			if err := start(t, cfg, server.Options{Adopt: true}); err != nil {
				t.Fatalf("with --adopt: %v", err)
			}
			if now := storeOf(t, cfg); now.Mark == "" || now.Mark == "unfinished" || now.Location != "files" {
				t.Errorf("after --adopt the database names %+v", now)
			}
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Errorf("after --adopt: %v", err)
			}
		})
	}
}

func TestStoreOfAnEarlierVersionIsRecorded(t *testing.T) {
	cfg := configIn(t.TempDir())
	makeFilledRoot(t, cfg)
	setStore(t, cfg, metadb.BlobStore{})
	if err := os.Remove(filepath.Join(cfg.DataDir, "blobs", "store-id")); err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfg, server.Options{}); err != nil {
		t.Fatal(err)
	}
	if now := storeOf(t, cfg); now.Mark == "" || now.Location != "files" {
		t.Errorf("the database names %+v", now)
	}
}
