package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// If other processes have the same content, a row says that a process deletes the file of a blob. A
// process that loses the lock of the blob, or is killed, may have sent its request to the blob store
// already. So a commit of the same blob waits until that request has no effect any more.

const (
	// deletionTimeout is how long a process may take to delete a file after it began the transaction.
	deletionTimeout = 30 * time.Second
	// deletionWait is how long a commit waits for a process that does not say that it has ended.
	deletionWait = 2 * deletionTimeout
	// deletionAge is the age at which the row of such a process is deleted.
	deletionAge   = 10 * time.Minute
	deletionRetry = time.Second
)

// beginDeletion records in tx that the file of a blob without a row is deleted next.
func (s *Storage) beginDeletion(tx *metadb.Tx, d digest.Digest) error {
	if s.digests.session == nil {
		return nil
	}
	return tx.PutDeletion(string(d), s.Uptime())
}

// deleteFile deletes the file of a blob after the transaction that recorded it, which began at begun.
func (s *Storage) deleteFile(ctx context.Context, begun time.Time, d digest.Digest) error {
	if s.digests.session == nil {
		return s.blobs.Delete(ctx, d)
	}
	ctx, stop := context.WithDeadline(ctx, begun.Add(deletionTimeout))
	defer stop()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete blob %s: %w", d, err) // it is an orphan now
	}
	if err := s.blobs.Delete(ctx, d); err != nil {
		return err
	}
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.EndDeletions(string(d)) })
}

// awaitDeletions waits until no process deletes the files of the blobs. The caller has locked them, so
// that a process that still does has lost its lock.
func (s *Storage) awaitDeletions(ctx context.Context, digests []string) error {
	if s.digests.session == nil {
		return nil
	}
	for begun := time.Now(); ; {
		some, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]string, error) { return tx.Deletions(digests) })
		if err != nil || len(some) == 0 {
			return err
		}
		if time.Since(begun) >= deletionWait {
			return s.remove(ctx, func(tx *metadb.Tx) error { return tx.EndDeletions(some...) })
		}
		select {
		case <-time.After(deletionRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// endDeletions deletes the rows of processes that ended before they could do so. Their files are
// orphans, if they are still there.
func (s *Storage) endDeletions(ctx context.Context, _ *Collected) error {
	if s.digests.session == nil {
		return nil
	}
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.EndDeletionsBefore(s.Uptime().Add(-deletionAge)) })
}
