package storage_test

import (
	"errors"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// TestStartReadsNoContent opens a database with 100,000 manifests. That takes milliseconds.
// Reading all of them takes many times the limit.
func TestStartReadsNoContent(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 100,000 rows")
	}
	f, disk, raw := onDisk(t)
	m := f.pushImage(t, "a", "v1")
	const fill = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
			INSERT INTO manifests
				(repository, digest, media_type, artifact_type, subject, annotations, payload, size, pushed_at)
			SELECT 'a', 'sha256:' || i, media_type, artifact_type, '', 'null', payload, size, 1 FROM n, manifests`
	if _, err := raw.ExecContext(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	db, err := metadb.Open(t.Context(), "sqlite:"+f.dir+"/ferry.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := storage.New(storage.Options{DB: db, Blobs: disk})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Manifest(t.Context(), "a", "v1")
	if err != nil || got.Digest != m.Digest {
		t.Errorf("Manifest = %v, %v", got, err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v to open and answer, want less than a second", took)
	}
}

func TestCachedManifestIsServedWithoutTheDatabase(t *testing.T) {
	f, _, raw := onDisk(t)
	m := f.pushImage(t, "a", "v1")
	for _, reference := range []string{"v1", string(m.Digest)} {
		if _, err := f.Manifest(t.Context(), "a", reference); err != nil {
			t.Fatal(err)
		}
	}
	defer breakTable(t, raw, "manifests")()
	for _, reference := range []string{"v1", string(m.Digest)} {
		if got, err := f.Manifest(t.Context(), "a", reference); err != nil || got.Digest != m.Digest {
			t.Errorf("%s = %v, %v", reference, got, err)
		}
	}
	if _, err := f.Manifest(t.Context(), "a", "v2"); err == nil || errors.Is(err, oci.ErrManifestUnknown) {
		t.Errorf("what was not read = %v, want the database's error", err)
	}
}
