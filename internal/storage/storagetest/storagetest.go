// Package storagetest gives tests a storage on a real database and a real disk. See [Content] for the
// storage and [Manifest] for the images in it.
package storagetest

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob/fs"
)

// Content is the storage of one registry. Its methods fail the test T on any error.
type Content struct {
	*storage.Storage
	DB *metadb.DB
	T  testing.TB
}

// New returns a storage. Unless o has a database and a blob store, it uses a fresh SQLite database and
// a fresh directory, which are deleted when the test ends.
func New(t testing.TB, o storage.Options) Content {
	t.Helper()
	if o.DB == nil {
		o.DB = dbtest.SQLite(t)
	}
	if o.Blobs == nil {
		o.Blobs = Blobs(t, t.TempDir())
	}
	s, err := storage.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return Content{s, o.DB, t}
}

// Files returns the blob store in dir.
func Files(t testing.TB, dir string) *fs.Store {
	t.Helper()
	files, err := fs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Open opens the storage in dir, as a process does that starts: unless o has others, a SQLite database and
// its blobs. The first call makes them. The caller closes the database.
func Open(ctx context.Context, dir string, o storage.Options) (*storage.Storage, *metadb.DB, error) {
	var err error
	if o.DB == nil {
		path := filepath.Join(dir, "ferry.db")
		if err := dbtest.Prepare(path); err != nil {
			return nil, nil, err
		}
		if o.DB, err = metadb.Open(ctx, "sqlite:"+path); err != nil {
			return nil, nil, err
		}
	}
	if o.Blobs == nil {
		if o.Blobs, err = fs.New(dir); err != nil {
			return nil, nil, err
		}
	}
	s, err := storage.New(o)
	return s, o.DB, err
}

// PushBlob stores content in a repository.
func (c Content) PushBlob(repository string, content []byte) oci.Descriptor {
	c.T.Helper()
	d := digest.FromBytes(content)
	if err := c.PutBlob(c.T.Context(), repository, d, content); err != nil {
		c.T.Fatal(err)
	}
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(content))}
}

// Image stores a config and layers, and returns an image of them, which the test may change before it
// stores it with [Content.Push].
func (c Content) Image(repository, config string, layers ...[]byte) Manifest {
	c.T.Helper()
	m := Manifest{Config: new(c.PushBlob(repository, []byte(config)))}
	for _, layer := range layers {
		m.Layers = append(m.Layers, c.PushBlob(repository, layer))
	}
	return m
}

// Push stores a manifest, under its tags if there are any.
func (c Content) Push(repository string, m Manifest, tags ...string) oci.Descriptor {
	c.T.Helper()
	payload := m.Payload()
	stored, err := c.PutManifest(c.T.Context(), storage.Put{Repository: repository, Payload: payload, Tags: tags})
	if err != nil {
		c.T.Fatal(err)
	}
	return oci.Descriptor{MediaType: stored.MediaType, Digest: stored.Digest, Size: int64(len(payload))}
}

// ReadPayload returns the payload of a manifest that a method of s returned, whole.
func ReadPayload(ctx context.Context, s *storage.Storage, m *storage.Manifest) (payload []byte, err error) {
	for r := s.OpenPayload(m); ; {
		chunk, err := r.Next(ctx)
		if err == io.EOF {
			return payload, nil
		}
		if err != nil {
			return payload, err
		}
		payload = append(payload, chunk...)
	}
}
