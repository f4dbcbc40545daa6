package storage

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// A Repository is what is known of one beside its content.
type Repository struct {
	Name      string
	CreatedAt time.Time
	UpdatedAt time.Time // of the last write
	Locks     Locks
	Manifests int // how many; only of a single repository
	Tags      int // how many; only of a single repository
}

// page is how many rows a walk over everything reads at once.
const page = 500

// Repositories returns up to limit repositories after the name after, in
// order, without those whose listing is locked.
func (s *Storage) Repositories(ctx context.Context, after string, limit int) (all []Repository, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.Repositories(after, limit, uint8(NoList))
		for _, row := range rows {
			all = append(all, repositoryOf(row))
		}
		return err
	})
	return all, err
}

// Repository returns the repository name, or [oci.ErrNameUnknown].
func (s *Storage) Repository(ctx context.Context, name string) (r Repository, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := tx.Repository(name)
		if err != nil {
			return known(err, oci.ErrNameUnknown)
		}
		r = repositoryOf(row)
		r.Manifests, r.Tags, err = tx.CountContent(name)
		return err
	})
	return r, err
}

func repositoryOf(row metadb.Repository) Repository {
	return Repository{Name: row.Name, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, Locks: Locks(row.Locks)}
}

// DeleteRepository removes a repository with everything in it.
func (s *Storage) DeleteRepository(ctx context.Context, name, origin string) error {
	err := s.update(ctx, func(tx *metadb.Tx) error {
		if err := checkRemovable(tx, name); err != nil {
			return err
		}
		if err := s.noteEmptied(tx, name, origin); err != nil {
			return err
		}
		return tx.DeleteRepository(name)
	})
	s.cache.forgetRepository(name)
	return err
}

// noteEmptied tells the change feed that every tag and manifest of a
// repository is going, unless a lock keeps one of them.
func (s *Storage) noteEmptied(tx *metadb.Tx, name, origin string) error {
	for after := ""; ; {
		tags, err := tx.Tags(name, after, page, 0)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if Locks(tag.Locks)&noRemoval != 0 {
				return oci.ErrDenied.With("deleting tag %s of %s is locked", tag.Name, name)
			}
			if err := s.note(tx, TagRemoved, name, tag.Name, "", origin); err != nil {
				return err
			}
			after = tag.Name
		}
		if len(tags) < page {
			break
		}
	}
	for after := ""; ; {
		manifests, err := tx.Manifests(name, after, page)
		if err != nil {
			return err
		}
		for _, m := range manifests {
			if Locks(m.Locks)&noRemoval != 0 {
				return oci.ErrDenied.With("deleting %s of %s is locked", m.Digest, name)
			}
			if err := s.note(tx, ManifestRemoved, name, "", digest.Digest(m.Digest), origin); err != nil {
				return err
			}
			after = m.Digest
		}
		if len(manifests) < page {
			return nil
		}
	}
}
