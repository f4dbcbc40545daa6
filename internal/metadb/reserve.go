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

// reserveSize is the size of the reserve in bytes. It is enough for several transactions, each
// of which needs space in the log before it can delete anything.
const reserveSize = 4 << 20

// A reserve is a file beside a SQLite database that takes space on its disk, and is deleted
// when a removal needs that space. While it does not exist, no content may be stored: see
// [DB.KeepReserve].
type reserve struct {
	path string // "" is no reserve
	kept atomic.Bool
	mu   sync.Mutex // held while the file is created or deleted
}

// keep creates the reserve if it does not exist. The only error is that the disk is full: if
// the file cannot be created for another reason, the database goes without.
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

// fill takes disk space for the file, with content that no file system compresses.
func fill(f *os.File, size int64) error {
	_, err := io.CopyN(f, rand.Reader, size)
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

// KeepReserve creates the reserve again if [DB.UpdateWithReserve] deleted it. The error says
// that there is no disk space for it, and so none for content either. The call is cheap while
// the reserve exists.
func (db *DB) KeepReserve() error { return db.reserve.keep() }

// UpdateWithReserve is [DB.Update] for changes that must be possible on a full disk: removals,
// the listings that announce them, and changes by an operator. If the disk is full, it deletes
// the reserve and runs fn again.
func (db *DB) UpdateWithReserve(ctx context.Context, fn func(*Tx) error) error {
	err := db.Update(ctx, fn)
	if err != nil && IsFull(err) && db.reserve.spend() {
		err = db.Update(ctx, fn)
	}
	return err
}

// openWithReserve connects to the database. If the disk is too full for that, it deletes the
// reserve first.
func (db *DB) openWithReserve(ctx context.Context, o Options) error {
	if !db.dialect.postgres {
		db.reserve.path = db.dialect.dsn + "-reserve"
	}
	err := db.connect(ctx, o)
	if err != nil && (IsFull(err) || errors.Is(err, unix.ENOSPC)) && db.reserve.spend() {
		err = db.connect(ctx, o)
	}
	return err
}
