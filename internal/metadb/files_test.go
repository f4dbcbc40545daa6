package metadb_test

import (
	"os"
	"path/filepath"
	"testing"

	"ferry/internal/metadb"
)

// TestOnlyTheOwnerReadsDatabaseFiles creates a database under the usual umask, and opens a
// database that others may read.
func TestOnlyTheOwnerReadsDatabaseFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ferry.db")
	for start := range 2 {
		db, err := metadb.Open(t.Context(), "sqlite:"+path)
		if err != nil {
			t.Fatal(err)
		}
		update(t, db, func(tx *metadb.Tx) error { return tx.SetSetting("x", "1") })
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("start %d: ferry.db%s has mode %v", start, suffix, info.Mode())
			}
			if err := os.Chmod(path+suffix, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if start == 0 { // the second start finds them all, as after a crash
			t.Cleanup(func() { db.Close() })
		} else if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
