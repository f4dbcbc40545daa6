package storage

import (
	"context"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// A Repository describes a repository without its content.
type Repository struct {
	metadb.Repository
	Manifests, Tags int // numbers; not in lists
}

// page is how many rows a walk over all content reads at a time.
const page = 500

// Repositories returns up to limit repositories after the name after, in order, without those
// whose listing is locked.
func (s *Storage) Repositories(ctx context.Context, after string, limit int) ([]Repository, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]Repository, error) {
		rows, err := tx.Repositories(after, limit, NoList)
		return convert(rows, func(row metadb.Repository) Repository { return Repository{Repository: row} }), err
	})
}

// Repository returns the repository name, or [oci.ErrNameUnknown].
func (s *Storage) Repository(ctx context.Context, name string) (Repository, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (Repository, error) {
		row, err := tx.Repository(name)
		if err != nil {
			return Repository{}, mapNotFound(err, oci.ErrNameUnknown)
		}
		manifests, tags, err := tx.CountContent(name)
		return Repository{row, manifests, tags}, err
	})
}

// HasManifests reports whether the repository name exists and is not empty. It is one indexed query.
func (s *Storage) HasManifests(ctx context.Context, name string) (bool, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (bool, error) { return tx.HasManifests(name) })
}

// DeleteRepository deletes a repository with all its content. If a lock of the repository or of
// its content forbids that, the error is [oci.ErrDenied].
func (s *Storage) DeleteRepository(ctx context.Context, name string, notes ...Note) error {
	err := s.update(ctx, name, s.remove, func(c *change) error {
		if err := checkRemovable(c.tx, name); err != nil {
			return err
		}
		locked, err := c.tx.LockedContent(name, noRemoval)
		if err != nil {
			return err
		}
		if locked != "" {
			return oci.ErrDenied.With("deleting %s of %s is locked", locked, name)
		}
		if err := c.relist(); err != nil {
			return err
		}
		if err := c.tx.DeleteRepository(name); err != nil {
			return err
		}
		return writeNotes(c.tx, notes)
	})
	s.cache.forgetRepository(name)
	return err
}
