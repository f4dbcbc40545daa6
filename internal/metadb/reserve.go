package metadb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reserveSize is how many bytes a SQLite database keeps for itself on its disk: several
// transactions, each of which needs room in the log before it can remove anything.
const reserveSize = 4 << 20

// A reserve is a file beside a SQLite database that takes room on its disk, and is
// deleted where a transaction needs that room. While it is not there, no content
// may be stored: see [DB.KeepReserve].
type reserve struct {
	path string // "" keeps none
	kept atomic.Bool
	mu   sync.Mutex // held while it is made or deleted
}

// keep makes the reserve where it is not there. The error is that the disk is full; where
// it cannot be made for another reason, there is none.
func (r *reserve) keep() error {
	if r.path == "" || r.kept.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept.Load() {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(allocate(f, reserveSize), f.Close())
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("keep reserve: %w", errors.Join(err, os.Remove(r.path)))
	}
	r.kept.Store(true)
	return nil
}

// allocate takes room for the file on its disk.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = io.CopyN(f, rand.Reader, size) // which no file system makes smaller
	}
	return err
}

// spend deletes the reserve, and reports whether it was there.
func (r *reserve) spend() bool {
	if r.path == "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept.Store(false)
	return os.Remove(r.path) == nil
}

// KeepReserve makes the reserve again if it was given to a transaction of
// [DB.UpdateWithReserve]. The error says that the disk has no room for it: then it has
// none for content either. It costs nothing while the reserve is there.
func (db *DB) KeepReserve() error { return db.reserve.keep() }

// UpdateWithReserve is [DB.Update] for what has to be possible on a full disk: removals,
// what a source says about them, and what an operator decides. Where it finds the disk full, it
// deletes the reserve and runs fn again.
func (db *DB) UpdateWithReserve(ctx context.Context, fn func(*Tx) error) error {
	err := db.Update(ctx, fn)
	if err != nil && IsFull(err) && db.reserve.spend() {
		err = db.Update(ctx, fn)
	}
	return err
}

// openWithReserve connects to the database. A disk that is too full for that gets the
// reserve back.
func (db *DB) openWithReserve(ctx context.Context) error {
	if !db.dialect.postgres {
		db.reserve.path = db.dialect.dsn + "-reserve"
	}
	err := db.connect(ctx)
	if err != nil && (IsFull(err) || errors.Is(err, unix.ENOSPC)) && db.reserve.spend() {
		err = db.connect(ctx)
	}
	return err
}
