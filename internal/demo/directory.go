package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A directory is where everything that the demo writes is.
type directory struct {
	path string
	own  bool // made by the demo, and gone with it
}

// newDirectory makes path, which may be there but must be empty; "" is a
// directory of its own among the temporary ones.
func newDirectory(path string) (directory, error) {
	if path == "" {
		made, err := os.MkdirTemp("", "ferry-demo-")
		return directory{made, true}, adviseDirectory(err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return directory{}, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return directory{}, adviseDirectory(err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return directory{}, adviseDirectory(err)
	}
	if len(entries) > 0 {
		return directory{}, withHint(fmt.Errorf("%s is not empty", path), "give --data-dir a new directory: the demo begins at the beginning")
	}
	probe := filepath.Join(path, ".probe") // a directory that is there may still be read-only
	if err := os.Mkdir(probe, 0o700); err != nil {
		return directory{}, adviseDirectory(err)
	}
	return directory{path, false}, os.Remove(probe)
}

// remove removes what the demo made a directory for.
func (d directory) remove() error {
	if !d.own {
		return nil
	}
	return os.RemoveAll(d.path)
}

func (d directory) join(name string) string { return filepath.Join(d.path, name) }

func adviseDirectory(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return withHint(err, "name a directory that you may write to: ferry demo --data-dir DIR")
	case errors.Is(err, syscall.ENOSPC):
		return withHint(err, "make room, or name a directory on another disk: ferry demo --data-dir DIR")
	}
	return withHint(err, "name a directory that is there or can be made: ferry demo --data-dir DIR")
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns the advice.
func (h hinted) Hint() string { return h.hint }

func withHint(err error, hint string) error { return hinted{err, hint} }
