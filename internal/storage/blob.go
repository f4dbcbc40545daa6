package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// OpenBlob opens the blob d of repository; an *os.File where the blob store
// keeps files. The error is [oci.ErrBlobUnknown] where the repository does
// not have it.
func (s *Storage) OpenBlob(ctx context.Context, repository string, d digest.Digest) (io.ReadSeekCloser, blob.Info, error) {
	info, err := s.repositoryBlob(ctx, repository, d)
	if err != nil {
		return nil, blob.Info{}, err
	}
	r, err := s.blobs.Open(ctx, d)
	if err != nil {
		return nil, blob.Info{}, known(err, oci.ErrBlobUnknown)
	}
	return r, info, nil
}

// StatBlob describes the blob d of repository, or returns
// [oci.ErrBlobUnknown]. A blob that nothing refers to yet is given a new
// grace period: a client that sees it here will not upload it, and pushes a
// manifest that needs it.
func (s *Storage) StatBlob(ctx context.Context, repository string, d digest.Digest) (blob.Info, error) {
	info, err := s.repositoryBlob(ctx, repository, d)
	if err != nil {
		return blob.Info{}, err
	}
	var referenced bool
	err = s.db.View(ctx, func(tx *metadb.Tx) (err error) {
		referenced, err = tx.BlobReferenced(repository, string(d))
		return err
	})
	if err != nil || referenced {
		return info, err
	}
	return info, s.LinkBlob(ctx, repository, d)
}

func (s *Storage) repositoryBlob(ctx context.Context, repository string, d digest.Digest) (blob.Info, error) {
	var row metadb.RepositoryBlob
	err := s.db.View(ctx, func(tx *metadb.Tx) (err error) {
		row, err = tx.RepositoryBlob(repository, string(d))
		return err
	})
	if err != nil {
		return blob.Info{}, known(err, oci.ErrBlobUnknown)
	}
	return blob.Info{Digest: d, Size: row.Size, Modified: row.CreatedAt}, nil
}

// HasBlob reports whether the blob d is here, in whatever repository.
func (s *Storage) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		_, err := tx.Blob(string(d))
		return err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// LinkBlob lets repository serve the blob d, which is here already under
// whatever repository; else it returns [oci.ErrBlobUnknown].
func (s *Storage) LinkBlob(ctx context.Context, repository string, d digest.Digest) error {
	if err := oci.CheckRepository(repository); err != nil {
		return err
	}
	return full(s.db.Update(ctx, func(tx *metadb.Tx) error {
		if _, err := tx.Blob(string(d)); err != nil {
			return known(err, oci.ErrBlobUnknown)
		}
		return s.link(tx, repository, d)
	}))
}

// Mount lets repository serve the blob d of the repository from, and reports
// whether from has it.
func (s *Storage) Mount(ctx context.Context, repository, from string, d digest.Digest) (bool, error) {
	if _, err := s.repositoryBlob(ctx, from, d); err != nil {
		if errors.Is(err, oci.ErrBlobUnknown) {
			return false, nil
		}
		return false, err
	}
	err := s.LinkBlob(ctx, repository, d)
	if errors.Is(err, oci.ErrBlobUnknown) {
		return false, nil // it was collected in between
	}
	return err == nil, err
}

func (s *Storage) link(tx *metadb.Tx, repository string, d digest.Digest) error {
	now := s.now()
	if err := tx.TouchRepository(repository, now); err != nil {
		return err
	}
	return tx.LinkBlob(repository, string(d), now)
}

// DeleteBlob takes the blob d from repository; its content goes with the next
// collection that finds it nowhere. A blob that a manifest of the repository
// needs stays: [oci.ErrDenied].
func (s *Storage) DeleteBlob(ctx context.Context, repository string, d digest.Digest) error {
	return s.db.Update(ctx, func(tx *metadb.Tx) error {
		parent, err := tx.ParentOf(repository, string(d))
		if err != nil {
			return err
		}
		if parent != "" {
			return oci.ErrDenied.With("blob is part of manifest %s; delete that first", parent)
		}
		return known(tx.UnlinkBlob(repository, string(d)), oci.ErrBlobUnknown)
	})
}

// PutBlob stores data, which must have the digest d, as a blob of repository.
// It is for small ones that are in memory already.
func (s *Storage) PutBlob(ctx context.Context, repository string, d digest.Digest, data []byte) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return oci.ErrDigestInvalid.With("content has digest %s, not %s", got, d)
	}
	id := "small-" + strings.ToLower(rand.Text())
	p, err := s.blobs.Partial(ctx, id)
	if err != nil {
		return full(err)
	}
	defer p.Close()
	_, err = p.WriteAt(data, 0)
	if err == nil {
		err = p.Sync()
	}
	if err != nil {
		return full(errors.Join(fmt.Errorf("write blob %s: %w", d, err), s.blobs.Discard(ctx, id)))
	}
	return s.commitPartial(ctx, id, d, int64(len(data)), []string{repository}, func(*metadb.Tx) error { return nil })
}

// commitPartial makes the partial id, verified and synced, the blob d, and
// in the same transaction links it to the repositories and runs also. It is
// the only place where a blob comes to be.
func (s *Storage) commitPartial(ctx context.Context, id string, d digest.Digest, size int64, repositories []string, also func(*metadb.Tx) error) error {
	defer s.digests.lock(string(d))()
	if err := s.blobs.Commit(ctx, id, d); err != nil {
		return full(err)
	}
	return full(s.db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: string(d), Size: size, CreatedAt: s.now()}); err != nil {
			return err
		}
		for _, repository := range repositories {
			if err := s.link(tx, repository, d); err != nil {
				return err
			}
		}
		return also(tx)
	}))
}
