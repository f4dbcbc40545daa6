package replication_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/fs"
	"ferry/internal/storage/storagetest"
)

// A badFileStore fails with operations on one file, or on all of them.
type badFileStore struct {
	blob.Store
	operation string // that fails
	digest    digest.Digest
	err       error // nil while the files are good
	all       bool  // every file is bad: the disk is at fault
}

func (s *badFileStore) fail(operation, name string) error {
	if s.err == nil || !s.all && (operation != s.operation || !strings.Contains(name, s.digest.Encoded())) {
		return nil
	}
	return &os.PathError{Op: operation, Path: name, Err: s.err}
}

func (s *badFileStore) Stat(ctx context.Context, d digest.Digest) (blob.Info, error) {
	if err := s.fail("stat", string(d)); err != nil {
		return blob.Info{}, err
	}
	return s.Store.Stat(ctx, d)
}

func (s *badFileStore) Commit(ctx context.Context, id string, d digest.Digest) error {
	if err := s.fail("rename", string(d)); err != nil {
		return err
	}
	return s.Store.Commit(ctx, id, d)
}

func (s *badFileStore) Partial(ctx context.Context, id string) (blob.Partial, error) {
	if err := s.fail("open", id); err != nil {
		return nil, err
	}
	p, err := s.Store.Partial(ctx, id)
	return badPartial{p, s, id}, err
}

type badPartial struct {
	blob.Partial
	store *badFileStore
	id    string
}

func (p badPartial) WriteAt(b []byte, offset int64) (int, error) {
	if err := p.store.fail("write", p.id); err != nil {
		return 0, err
	}
	return p.Partial.WriteAt(b, offset)
}

func (p badPartial) ReadAt(b []byte, offset int64) (int, error) {
	if err := p.store.fail("read", p.id); err != nil {
		return 0, err
	}
	return p.Partial.ReadAt(b, offset)
}

func (p badPartial) Sync() error {
	if err := p.store.fail("sync", p.id); err != nil {
		return err
	}
	return p.Partial.Sync()
}

// newBadFileReplica returns a replica of p over a store whose files are good at first.
func newBadFileReplica(t *testing.T, p *parent, bad *badFileStore) *replica {
	t.Helper()
	dir := t.TempDir()
	store, err := fs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	bad.Store = store
	s, db, err := storagetest.Open(t.Context(), dir, storage.Options{Grace: grace, Blobs: bad})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	engine := replication.New(replication.Options{Storage: s, DB: db})
	return &replica{Storage: s, Engine: engine, db: db, source: p.client(), t: t}
}

func TestBadFileFailsOnlyItsImage(t *testing.T) {
	for _, test := range []struct {
		operation string
		cause     error
		size      int
	}{
		{"stat", syscall.ELOOP, 300 << 10},
		{"open", syscall.EISDIR, 300 << 10},
		{"write", syscall.EIO, 300 << 10},
		{"sync", syscall.EIO, 3 << 20},
		{"read", syscall.EIO, 3 << 20},
		{"rename", syscall.EEXIST, 300 << 10},
		{"rename", syscall.ENOTDIR, 300 << 10},
		{"rename", syscall.EACCES, 300 << 10},
		{"stat", syscall.ELOOP, 100}, // these come with the plan
		{"rename", syscall.EEXIST, 100},
	} {
		t.Run(fmt.Sprint(test.operation, " ", test.cause, " ", test.size), func(t *testing.T) {
			p := newParent(t)
			content := randomBytes(1, test.size)
			p.image("a", [][]byte{content}, "bad")
			p.image("a", [][]byte{randomBytes(3, 300<<10), randomBytes(4, 50)}, "good")
			p.image("z", [][]byte{randomBytes(5, 300<<10)}, "good")
			bad := &badFileStore{operation: test.operation, digest: digest.FromBytes(content), err: test.cause}
			r := newBadFileReplica(t, p, bad)
			r.follow()
			result, err := r.Sync(t.Context(), r.source)
			if err != nil || result.Failed != 1 || result.Synced != 2 || result.Permanent != 0 {
				t.Fatalf("Sync = %+v, %v; items %v", result, err, r.items())
			}
			failed, err := r.Items(t.Context(), metadb.FailedSyncItem, "", "", 10)
			if err != nil || len(failed) != 1 || !strings.Contains(failed[0].Error, test.cause.Error()) {
				t.Errorf("failed items are %+v, %v", failed, err)
			}
			bad.err = nil
			r.sync()
			assertInSync(t, p, r.Storage)
		})
	}
}

func TestBadDiskEndsTheSync(t *testing.T) {
	for _, cause := range []error{syscall.EROFS, syscall.EIO} {
		p := newParent(t)
		p.image("a", [][]byte{randomBytes(1, 300<<10)}, "v1")
		bad := &badFileStore{}
		r := newBadFileReplica(t, p, bad)
		r.follow()
		bad.err, bad.all = cause, true
		if result, err := r.Sync(t.Context(), r.source); err == nil || result.Failed > 0 {
			t.Errorf("Sync with a disk that fails with %q = %+v, %v", cause, result, err)
		}
		bad.err = nil
		r.sync()
		assertInSync(t, p, r.Storage)
	}
}

func TestSyncReplacesADirectoryInPlaceOfABlob(t *testing.T) {
	p := newParent(t)
	layer := randomBytes(1, 300<<10)
	p.image("a", [][]byte{layer}, "v1")
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	d := digest.FromBytes(layer)
	for range 3 { // a directory that was moved aside does not stop the next one
		content, _, err := r.OpenBlob(t.Context(), "a", d)
		if err != nil {
			t.Fatal(err)
		}
		path := content.(*os.File).Name()
		content.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "not Ferry's"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := r.StatBlob(t.Context(), "a", d); err == nil {
			t.Error("a directory is served as a blob")
		}
		r.sync()
		assertInSync(t, p, r.Storage)
	}
}
