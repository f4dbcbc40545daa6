package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned, wrapped, for a data directory that another process uses.
var ErrLocked = errors.New("another ferry uses this data directory")

// ErrCopying is returned, wrapped, for a data directory whose blobs another process copies.
var ErrCopying = errors.New("another ferry copies the blobs of this data directory")

// LockDir creates the data directory dir, and makes this process the only one that uses it. The
// lock ends with unlock, or with the process.
func LockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	return lockName(dir, "lock", ErrLocked)
}

// LockCopy makes this process the only one that copies the blobs of the data directory dir. An instance may
// use the directory.
func LockCopy(dir string) (unlock func() error, err error) {
	return lockName(dir, "blobs-copy.lock", ErrCopying)
}

// lockName locks the file name in dir. If another process has it, the error is taken.
func lockName(dir, name string, taken error) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = taken
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return f.Close, nil
}
