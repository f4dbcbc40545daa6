package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// smallWriters is how many small blobs are written at a time. A file system can make several of
// them durable in one step.
const smallWriters = 16

// A SmallBlob is content in memory for a repository.
type SmallBlob struct {
	Repository string
	Digest     digest.Digest
	Data       []byte
}

// check returns [oci.ErrDigestInvalid] unless the content matches its digest.
func (b SmallBlob) check() error {
	if err := oci.CheckRepository(b.Repository); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(string(b.Digest)); err != nil {
		return err
	}
	if got := b.Digest.Algorithm().FromBytes(b.Data); got != b.Digest {
		return oci.ErrDigestInvalid.With("content has digest %s, not %s", got, b.Digest)
	}
	return nil
}

// PutBlob stores one small blob.
func (s *Storage) PutBlob(ctx context.Context, repository string, d digest.Digest, data []byte) error {
	return s.PutBlobs(ctx, SmallBlob{repository, d, data})
}

// PutBlobs stores small blobs, and records all of them in one transaction, or none.
func (s *Storage) PutBlobs(ctx context.Context, blobs ...SmallBlob) error {
	if err := s.checkReserve(); err != nil {
		return err
	}
	var partials []syncedPartial
	var ids []string
	index := map[digest.Digest]int{}
	data := [][]byte{}
	for _, b := range blobs {
		if err := b.check(); err != nil {
			return err
		}
		i, seen := index[b.Digest]
		if !seen {
			i = len(partials)
			index[b.Digest] = i
			partials = append(partials,
				syncedPartial{id: smallPartial(), digest: b.Digest, size: int64(len(b.Data))})
			data, ids = append(data, b.Data), append(ids, partials[i].id)
		}
		partials[i].repositories = append(partials[i].repositories, b.Repository)
	}
	defer s.partials.lockAll(ids)() // they have no rows, and only this process knows them
	err := each(partials, func(i int, p syncedPartial) error { return s.writeSmall(ctx, p, data[i]) })
	if err == nil {
		err = s.commitBlobs(ctx, partials, func(*metadb.Tx) error { return nil })
	}
	if err == nil {
		return nil
	}
	for _, p := range partials {
		err = errors.Join(err, s.blobs.Discard(context.WithoutCancel(ctx), p.id))
	}
	return err
}

// writeSmall writes a partial and syncs it.
func (s *Storage) writeSmall(ctx context.Context, v syncedPartial, data []byte) error {
	p, err := s.blobs.Partial(ctx, v.id)
	if err != nil {
		return s.mapDiskFull(err)
	}
	_, err = p.WriteAt(data, 0)
	if err == nil {
		err = p.Sync()
	}
	if err = errors.Join(err, p.Close()); err != nil {
		return s.mapDiskFull(fmt.Errorf("write blob %s: %w", v.digest, err))
	}
	return nil
}

// smallPartial returns a new name of a partial that has no row in the database.
func smallPartial() string { return "small-" + strings.ToLower(rand.Text()) }

// A syncedPartial is a partial that has the complete content of a blob, and is synced.
type syncedPartial struct {
	id           string
	digest       digest.Digest
	size         int64
	repositories []string // that get the blob
}

// commitBlobs makes blobs of partials. In one transaction it links them to their
// repositories and runs also. All digests must be different. If it returns an error, the
// partials are unchanged, unless only the replacement of a file failed, or the error is
// [metadb.ErrUncertain]. The end of the context
// does not interrupt it. No other function creates a blob.
//
// A file that exists is replaced by the verified partial, because its own bytes may have
// changed since it was written. That happens after the transaction, because the partial must
// exist until then.
func (s *Storage) commitBlobs(ctx context.Context, partials []syncedPartial, also func(*metadb.Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	digests := make([]string, len(partials))
	for i, p := range partials {
		digests[i] = string(p.digest)
	}
	held, err := s.digests.acquire(ctx, digests...)
	if err != nil {
		return err
	}
	defer held.release()
	if err := s.awaitDeletions(ctx, digests); err != nil {
		return err
	}
	here, err := s.haveFiles(ctx, partials)
	if err != nil {
		return err
	}
	moved := make([]bool, len(partials))
	err = each(partials, func(i int, p syncedPartial) error {
		if here[i] {
			return nil
		}
		err := s.mapDiskFull(s.moveIntoPlace(ctx, p.id, p.digest, p.size))
		moved[i] = err == nil
		return err
	})
	if err == nil {
		err = s.recordAll(ctx, partials, held.confirmed(also))
	}
	if err == nil {
		return each(partials, func(i int, p syncedPartial) (err error) {
			if !moved[i] {
				err = s.mapDiskFull(s.replaceFile(ctx, p))
			}
			if err := s.blobs.Discard(ctx, p.id); err != nil { // a collection deletes it
				s.log.Warn("partial of a stored blob is not deleted", "digest", p.digest, "err", err)
			}
			return err
		})
	}
	if errors.Is(err, metadb.ErrUncertain) {
		return err // as after a crash here: see [Storage.recoverPartial]
	}
	for i, p := range partials {
		if moved[i] {
			err = errors.Join(err, s.blobs.Reopen(ctx, p.digest, p.id))
		}
	}
	return err
}

// replaceFile replaces the file of a blob by the verified partial, unless the store knows that the
// file is as it was committed.
func (s *Storage) replaceFile(ctx context.Context, p syncedPartial) error {
	if store, ok := s.blobs.(blob.Keeper); ok {
		if kept, err := store.Keeps(ctx, p.digest); err != nil || kept {
			return err
		}
	}
	return s.blobs.Commit(ctx, p.id, p.digest)
}

// haveFiles reports for each partial whether its blob is here already. It uses one connection
// to the database at a time, because each connection that was ever used takes memory.
func (s *Storage) haveFiles(ctx context.Context, partials []syncedPartial) ([]bool, error) {
	here := make([]bool, len(partials))
	for i, p := range partials {
		row, err := s.blob(ctx, p.digest)
		if err == nil {
			here[i], err = s.hasFile(ctx, p.digest, row.Size)
		}
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return nil, err
		}
	}
	return here, nil
}

// recordAll writes the rows of blobs in one transaction, in which it runs also.
func (s *Storage) recordAll(ctx context.Context, partials []syncedPartial, also func(*metadb.Tx) error) error {
	healed := map[string]bool{}
	err := s.write(ctx, func(tx *metadb.Tx) error {
		clear(healed)
		for _, p := range partials {
			if err := s.record(tx, p, healed); err != nil {
				return err
			}
		}
		return also(tx)
	})
	if err == nil {
		s.notifyWatchers(healed)
	}
	return err
}

// record writes the rows of a blob whose file is in its place. It adds the repositories that the
// blob heals to healed.
func (s *Storage) record(tx *metadb.Tx, v syncedPartial, healed map[string]bool) error {
	if err := s.putBlob(tx, v.digest, v.size, healed); err != nil {
		return err
	}
	for _, repository := range v.repositories {
		if err := s.link(tx, repository, v.digest); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn for each partial, some of them at a time.
func each(partials []syncedPartial, fn func(i int, p syncedPartial) error) error {
	var g errgroup.Group
	g.SetLimit(smallWriters)
	for i, p := range partials {
		g.Go(func() error { return fn(i, p) })
	}
	return g.Wait()
}

// moveIntoPlace commits the partial id, unless an earlier attempt moved it and could not move
// it back.
func (s *Storage) moveIntoPlace(ctx context.Context, id string, d digest.Digest, size int64) error {
	err := s.blobs.Commit(ctx, id, d)
	if errors.Is(err, blob.ErrNotExist) {
		if has, statErr := s.hasFile(ctx, d, size); statErr == nil && has {
			return nil
		}
	}
	return err
}

// moveBack makes the file of the blob d, of size bytes, the partial id again, unless the blob
// has its row, or the file is damaged. The caller holds the lock of the digest.
func (s *Storage) moveBack(ctx context.Context, id string, d digest.Digest, size int64) error {
	if _, err := s.blob(ctx, d); !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	damage, err := s.damageOf(ctx, d)
	if err == nil && damage != nil {
		var reason string
		if reason, err = checkContent(ctx, s.blobs, d, size, Unpaced); reason != "" {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return s.blobs.Reopen(ctx, d, id)
}

// recoverPartial opens the partial id, of which size bytes were recorded. If it is empty, the
// process may have stopped in a commit, after it moved the partial to d and before it recorded
// that. Then the partial is moved back.
func (s *Storage) recoverPartial(ctx context.Context, id string, d digest.Digest, size int64) (blob.Partial, error) {
	p, err := s.blobs.Partial(ctx, id)
	if err != nil || size == 0 {
		return p, err
	}
	have, err := p.Size()
	if err != nil || have > 0 {
		return p, err
	}
	held, err := s.digests.acquire(ctx, string(d))
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	defer held.release()
	moved, err := s.hasFile(ctx, d, size)
	if err == nil && !moved {
		return p, nil
	}
	if err == nil {
		err = s.moveBack(ctx, id, d, size)
	}
	if err := errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return s.blobs.Partial(ctx, id)
}
