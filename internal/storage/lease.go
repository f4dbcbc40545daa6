package storage

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// Lease keeps blobs from collection for ttl from now, in holder's name, also
// those that are not here yet.
func (s *Storage) Lease(ctx context.Context, holder string, ttl time.Duration, digests ...digest.Digest) error {
	expires := s.now().Add(ttl)
	return s.write(ctx, func(tx *metadb.Tx) error {
		for _, d := range digests {
			if err := tx.Lease(holder, string(d), expires); err != nil {
				return err
			}
		}
		return nil
	})
}

// Release ends every lease of holder.
func (s *Storage) Release(ctx context.Context, holder string) error {
	return s.write(ctx, func(tx *metadb.Tx) error { return tx.Release(holder) })
}
