package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// PutBlob stores data, which must have the digest d, as a blob of repository.
// It is for small ones that are in memory already.
func (s *Storage) PutBlob(ctx context.Context, repository string, d digest.Digest, data []byte) error {
	if err := oci.CheckRepository(repository); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return oci.ErrDigestInvalid.With("content has digest %s, not %s", got, d)
	}
	id := "small-" + strings.ToLower(rand.Text())
	p, err := s.blobs.Partial(ctx, id)
	if err != nil {
		return s.full(err)
	}
	defer p.Close()
	_, err = p.WriteAt(data, 0)
	if err == nil {
		err = p.Sync()
	}
	if err != nil {
		err = s.full(fmt.Errorf("write blob %s: %w", d, err))
	} else {
		err = s.commitPartial(ctx, id, d, int64(len(data)), []string{repository}, func(*metadb.Tx) error { return nil })
	}
	if err != nil {
		return errors.Join(err, s.blobs.Discard(context.WithoutCancel(ctx), id))
	}
	return nil
}

// commitPartial makes the partial id, verified and synced, the blob d, and
// in the same transaction links it to the repositories and runs also. When it
// returns an error the partial is as it was. It is the only place where a blob
// comes to be. The context's end does not stop it halfway.
func (s *Storage) commitPartial(ctx context.Context, id string, d digest.Digest, size int64, repositories []string, also func(*metadb.Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	defer s.digests.lock(string(d))()
	here, err := s.HasBlob(ctx, d)
	if err != nil {
		return err
	}
	if !here {
		if err := s.place(ctx, id, d, size); err != nil {
			return s.full(err)
		}
	}
	err = s.write(ctx, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: string(d), Size: size, CreatedAt: s.now()}); err != nil {
			return err
		}
		for _, repository := range repositories {
			if err := s.link(tx, repository, d); err != nil {
				return err
			}
		}
		return also(tx)
	})
	if err != nil {
		if here {
			return err
		}
		return errors.Join(err, s.takeBack(ctx, id, d))
	}
	if here {
		if err := s.blobs.Discard(ctx, id); err != nil { // a collection will
			s.log.Warn("partial is left behind", "digest", d, "err", err)
		}
	}
	return nil
}

// place commits the partial id, unless an earlier try moved it already and
// could not take it back.
func (s *Storage) place(ctx context.Context, id string, d digest.Digest, size int64) error {
	err := s.blobs.Commit(ctx, id, d)
	if errors.Is(err, blob.ErrNotExist) {
		if has, statErr := s.hasFile(ctx, d, size); statErr == nil && has {
			return nil
		}
	}
	return err
}

// takeBack makes the file of the blob d the partial id again, unless the blob
// has its row. The caller holds the digest's lock.
func (s *Storage) takeBack(ctx context.Context, id string, d digest.Digest) error {
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		_, err := tx.Blob(string(d))
		return err
	})
	if !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	return s.blobs.Reopen(ctx, d, id)
}

// recoverPartial opens the partial id, of which size bytes are known. Where
// it is empty, a commit may have moved it to d and ended, by a crash, before
// that was recorded: then it is taken back.
func (s *Storage) recoverPartial(ctx context.Context, id string, d digest.Digest, size int64) (blob.Partial, error) {
	p, err := s.blobs.Partial(ctx, id)
	if err != nil || size == 0 {
		return p, err
	}
	have, err := p.Size()
	if err != nil || have > 0 {
		return p, err
	}
	defer s.digests.lock(string(d))()
	moved, err := s.hasFile(ctx, d, size)
	if err == nil && !moved {
		return p, nil
	}
	if err == nil {
		err = s.takeBack(ctx, id, d)
	}
	if err := errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return s.blobs.Partial(ctx, id)
}
