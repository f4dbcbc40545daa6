package storage

import (
	"context"
	"errors"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Locks are the attributes that keep content as it is; the zero value locks nothing.
type Locks = metadb.Locks

// What a lock forbids. Those of a repository hold for everything in it; those
// of a tag and of the manifest that it names do not depend on each other.
const (
	NoRead   Locks = 1 << iota // pulling
	NoWrite                    // pushing, moving a tag, and deleting
	NoDelete                   // deleting
	NoList                     // being listed
)

// noRemoval are the locks that each forbid deletion.
const noRemoval = NoWrite | NoDelete

// SetLocks replaces the locks of a repository, where reference is empty, of a
// tag, or of a manifest by its digest.
func (s *Storage) SetLocks(ctx context.Context, repository, reference string, locks Locks) error {
	err := s.write(ctx, func(tx *metadb.Tx) error {
		switch {
		case reference == "":
			return known(tx.SetRepositoryLocks(repository, locks), oci.ErrNameUnknown)
		case oci.IsDigest(reference):
			return known(tx.SetManifestLocks(repository, reference, locks), oci.ErrManifestUnknown)
		}
		return known(tx.SetTagLocks(repository, reference, locks), oci.ErrManifestUnknown)
	})
	s.cache.forgetRepository(repository)
	return err
}

// checkWritable returns [oci.ErrDenied] when the repository, which need not
// exist, is locked against writing.
func checkWritable(tx *metadb.Tx, repository string) error {
	row, err := tx.Repository(repository)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err == nil && row.Locks&NoWrite != 0 {
		return oci.ErrDenied.With("writing to repository %s is locked", repository)
	}
	return err
}

// checkRemovable returns [oci.ErrDenied] when the repository is locked
// against deletion, and [oci.ErrNameUnknown] when there is none.
func checkRemovable(tx *metadb.Tx, repository string) error {
	row, err := tx.Repository(repository)
	if err == nil && row.Locks&noRemoval != 0 {
		return oci.ErrDenied.With("deleting from repository %s is locked", repository)
	}
	return known(err, oci.ErrNameUnknown)
}
