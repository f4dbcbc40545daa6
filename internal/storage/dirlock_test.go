package storage_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/storage"
)

func TestDataDirectoryHasOneServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	unlock, err := storage.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = storage.LockDir(dir)
	if !errors.Is(err, storage.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second LockDir = %v, want %v, with the directory's name", err, storage.ErrLocked)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = storage.LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after an unlock = %v", err)
	}
	unlock()
}
