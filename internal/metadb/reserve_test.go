package metadb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// grow needs more pages than the database has. The database may grow only while the file
// reserve does not exist, as on a full disk.
func grow(tx *Tx, reserve string) error {
	pages := 1 << 20
	if _, err := os.Stat(reserve); err == nil {
		pages = 1 // SQLite takes the number that there are
	}
	if err := tx.do("limit pages", fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)); err != nil {
		return err
	}
	return tx.SetSetting("x", strings.Repeat("x", 1<<20))
}

func TestReserveIsReleasedToRemovalsOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ferry.db")
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reserve := path + "-reserve"
	size := func() int64 {
		info, err := os.Stat(reserve)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	if size() != reserveSize {
		t.Fatalf("the reserve has %d bytes, want %d", size(), reserveSize)
	}
	runs := 0
	full := func(tx *Tx) error {
		runs++
		return grow(tx, reserve)
	}
	if err := db.Update(t.Context(), full); !IsFull(err) || runs != 1 || size() != reserveSize {
		t.Errorf("Update = %v after %d runs, and the reserve has %d bytes", err, runs, size())
	}
	other := errors.New("other")
	runs = 0
	err = db.UpdateWithReserve(t.Context(), func(*Tx) error { runs++; return other })
	if !errors.Is(err, other) || runs != 1 || size() != reserveSize {
		t.Errorf("another error: %v after %d runs, and the reserve has %d bytes", err, runs, size())
	}
	runs = 0
	if err := db.UpdateWithReserve(t.Context(), full); err != nil || runs != 2 || size() != 0 {
		t.Errorf("UpdateWithReserve = %v after %d runs, and the reserve has %d bytes", err, runs, size())
	}
	for range 2 {
		if err := db.KeepReserve(); err != nil || size() != reserveSize {
			t.Errorf("KeepReserve = %v, and the reserve has %d bytes", err, size())
		}
	}
}

func TestFullDiskWithoutReserveIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ferry.db")
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if !db.reserve.spend() || db.reserve.spend() {
		t.Error("the reserve is not spent once")
	}
	runs := 0
	err = db.UpdateWithReserve(t.Context(), func(tx *Tx) error {
		runs++
		return grow(tx, path) // which is always there
	})
	if !IsFull(err) || runs != 1 {
		t.Errorf("UpdateWithReserve = %v after %d runs", err, runs)
	}
}
