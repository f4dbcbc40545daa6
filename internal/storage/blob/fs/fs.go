// Package fs keeps blobs as files: complete ones as blobs/<algorithm>/<hex>, as in an OCI image
// layout, and partial ones as partial/<id>.
package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

var _ blob.Store = (*Store)(nil)

// A Store keeps blobs below one directory. It needs a file system on which a rename is atomic,
// and an fsync of a directory makes it durable.
type Store struct {
	root string
}

// New returns the store below root, and creates its directories.
func New(root string) (*Store, error) {
	s := &Store{root: root}
	for _, dir := range []string{"blobs/sha256", "blobs/sha512", "partial"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(dir)), 0o700); err != nil {
			return nil, fmt.Errorf("create blob store: %w", err)
		}
	}
	for _, dir := range []string{"blobs", "."} {
		if err := syncDir(filepath.Join(root, dir)); err != nil {
			return nil, fmt.Errorf("create blob store: %w", err)
		}
	}
	return s, nil
}

// Open implements [blob.Store]; the result is an *os.File.
func (s *Store) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	path, err := s.path(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, wrap("open", d, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, wrap("open", d, err)
	}
	return f, nil
}

var _ blob.Rereader = (*Store)(nil)

// Reread implements [blob.Rereader]. The system does not keep the content in memory afterwards,
// where it would replace content that clients pull.
func (s *Store) Reread(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	r, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	f := reread{r.(*os.File)}
	f.forget()
	return f, nil
}

type reread struct{ *os.File }

// Close implements [io.Closer].
func (f reread) Close() error {
	f.forget()
	return f.File.Close()
}

// Stat implements [blob.Store].
func (s *Store) Stat(_ context.Context, d digest.Digest) (blob.Info, error) {
	path, err := s.path(d)
	if err != nil {
		return blob.Info{}, err
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return blob.Info{}, wrap("stat", d, err)
	}
	return blob.Info{Digest: d, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Commit implements [blob.Store].
func (s *Store) Commit(_ context.Context, id string, d digest.Digest) error {
	from, err := s.partialPath(id)
	if err != nil {
		return err
	}
	to, err := s.path(d)
	if err != nil {
		return err
	}
	if err := moveAside(to); err != nil {
		return wrap("commit", d, err)
	}
	if err := os.Rename(from, to); err != nil {
		return wrap("commit", d, err)
	}
	return syncDir(filepath.Dir(to))
}

// moveAside renames a directory that is in the place of a blob's file, because a rename cannot
// replace it. It is not deleted, because it does not belong to the store.
func moveAside(path string) error {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil
	}
	return os.Rename(path, path+".directory-"+strings.ToLower(rand.Text())) // an earlier one may be there
}

// Reopen implements [blob.Store].
func (s *Store) Reopen(_ context.Context, d digest.Digest, id string) error {
	from, err := s.path(d)
	if err != nil {
		return err
	}
	to, err := s.partialPath(id)
	if err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return wrap("reopen", d, err)
	}
	return syncDir(filepath.Dir(to))
}

// Discard implements [blob.Store].
func (s *Store) Discard(_ context.Context, id string) error {
	path, err := s.partialPath(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard partial %s: %w", id, err)
	}
	return nil
}

// Delete implements [blob.Store].
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	path, err := s.path(d)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil // it is not the blob's file
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("delete", d, err)
	}
	return nil
}

// Free implements [blob.Store].
func (s *Store) Free(context.Context) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(s.root, &disk); err != nil {
		return 0, fmt.Errorf("read free space of %s: %w", s.root, err)
	}
	free := float64(disk.Bavail) * float64(disk.Bsize)
	return int64(min(free, math.MaxInt64/2)), nil
}

// Walk implements [blob.Store].
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err := files(ctx, filepath.Join(s.root, "blobs", string(algorithm)), func(info fs.FileInfo) error {
			d := digest.NewDigestFromEncoded(algorithm, info.Name())
			if _, err := oci.ParseDigest(string(d)); err != nil {
				return nil // a file that does not belong to the store
			}
			return fn(blob.Info{Digest: d, Size: info.Size(), Modified: info.ModTime()})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WalkPartials implements [blob.Store].
func (s *Store) WalkPartials(ctx context.Context, fn func(id string, size int64) error) error {
	return files(ctx, filepath.Join(s.root, "partial"), func(info fs.FileInfo) error {
		return fn(info.Name(), info.Size())
	})
}

// files calls fn for each file in dir. It reads some entries at a time, so that a directory of
// millions takes little memory.
func files(ctx context.Context, dir string, fn func(fs.FileInfo) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("walk blobs: %w", err)
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
				continue
			}
			if err != nil {
				return fmt.Errorf("walk blobs: %w", err)
			}
			if err := fn(info); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("walk blobs: %w", err)
		}
	}
}

// path returns the path of the blob d. It refuses anything but digests, so that no input names
// another file.
func (s *Store) path(d digest.Digest) (string, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return "", err
	}
	return filepath.Join(s.root, "blobs", string(d.Algorithm()), d.Encoded()), nil
}

func wrap(verb string, d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = blob.ErrNotExist
	}
	return fmt.Errorf("%s blob %s: %w", verb, d, err)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
