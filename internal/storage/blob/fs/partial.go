package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"

	"ferry/internal/storage/blob"
)

var _ blob.Partial = (*partial)(nil)

// partialID matches the ids of partials, which contain no path.
var partialID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// A partial is a file that is being written.
type partial struct {
	*os.File
	fresh atomic.Bool // its name in the directory may not be durable yet
}

// Partial implements [blob.Store].
func (s *Store) Partial(_ context.Context, id string) (blob.Partial, error) {
	path, err := s.partialPath(id)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("open partial %s: %w", id, err)
	}
	p := &partial{File: f}
	p.fresh.Store(fresh)
	return p, nil
}

func (s *Store) partialPath(id string) (string, error) {
	if !partialID.MatchString(id) {
		return "", fmt.Errorf("open partial: malformed id %.40q", id)
	}
	return filepath.Join(s.root, "partial", id), nil
}

// Size implements [blob.Partial].
func (p *partial) Size() (int64, error) {
	info, err := p.Stat()
	if err != nil {
		return 0, fmt.Errorf("stat partial: %w", err)
	}
	return info.Size(), nil
}

// Sync implements [blob.Partial]. The first call also syncs the directory: a file whose name is
// lost in a power loss has not survived it.
func (p *partial) Sync() error {
	if err := p.File.Sync(); err != nil {
		return err
	}
	if !p.fresh.Load() {
		return nil
	}
	if err := syncDir(filepath.Dir(p.Name())); err != nil {
		return err
	}
	p.fresh.Store(false)
	return nil
}
