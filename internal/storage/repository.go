package storage

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"

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
	return s.removeRepository(ctx, name, byClient, notes)
}

func (s *Storage) removeRepository(ctx context.Context, name string, by author, notes []Note) error {
	err := s.update(ctx, name, s.remove, func(c *change) error {
		if err := by(c, wholeRepository); err != nil {
			return err
		}
		return c.deleteRepository(notes)
	})
	if mayHaveWritten(err) {
		s.cache.forgetRepository(name)
	}
	return err
}

// Deleted are the manifests and tags that were deleted with a repository.
type Deleted struct {
	Manifests []digest.Digest
	Tags      []string
}

// DeleteRepositoryListing is [Storage.DeleteRepository]. It returns up to limit of the deleted
// manifests, and up to limit of the deleted tags.
func (s *Storage) DeleteRepositoryListing(
	ctx context.Context, name string, limit int, notes ...Note,
) (gone Deleted, err error) {
	err = s.update(ctx, name, s.remove, func(c *change) error {
		c.records = s.sendsUp
		manifests, err := c.tx.Manifests(name, "", limit)
		if err != nil {
			return err
		}
		gone.Manifests = convert(manifests, func(m Manifest) digest.Digest { return m.Digest })
		if gone.Tags, err = c.tx.TagNames(name, "", limit, 0); err != nil {
			return err
		}
		return c.deleteRepository(notes)
	})
	if mayHaveWritten(err) {
		s.cache.forgetRepository(name)
	}
	return gone, err
}

func (c *change) deleteRepository(notes []Note) error {
	if _, err := c.tx.Repository(c.repository); err != nil {
		return mapNotFound(err, oci.ErrNameUnknown)
	}
	if !c.unlocked {
		if err := checkRemovable(c.tx, c.repository); err != nil {
			return err
		}
		locked, err := c.tx.LockedContent(c.repository, noRemoval)
		if err != nil {
			return err
		}
		if locked != "" {
			kind := "tag"
			if strings.Contains(locked, ":") { // no tag has a colon, and every digest has one
				kind = "manifest"
			}
			return oci.ErrDenied.With("deleting repository %s is locked by its %s %s; ferry repository update at the "+
				"root registry unlocks it", c.repository, kind, locked)
		}
	}
	if err := c.relist(); err != nil {
		return err
	}
	if err := c.recordRepository(); err != nil {
		return err
	}
	if err := c.deletedAll(); err != nil {
		return err
	}
	if err := c.tx.DeleteRepository(c.repository); err != nil {
		return err
	}
	return writeNotes(c.tx, notes)
}
