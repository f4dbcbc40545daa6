package storage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Tags returns up to limit tags of repository after the tag after, in order o, without those
// whose listing is locked. If after is "", it begins with the first. It ignores o.After. The
// error is [oci.ErrNameUnknown] if there is no such repository, and [oci.ErrManifestUnknown] if
// the order of after is unknown because it was deleted.
func (s *Storage) Tags(ctx context.Context, repository string, o TagOrder, after string, limit int) ([]Tag, error) {
	o.After = Tag{Name: after}
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]Tag, error) {
		_, err := tx.Repository(repository)
		if err != nil {
			return nil, mapNotFound(err, oci.ErrNameUnknown)
		}
		if after != "" && o.ByTime {
			if o.After, err = tx.Tag(repository, after); err != nil {
				return nil, mapNotFound(err, oci.ErrManifestUnknown)
			}
		}
		return tx.Tags(repository, o, limit, NoList)
	})
}

// TagNames returns up to limit names of tags of repository after the name after, in order,
// without those whose listing is locked. The error is [oci.ErrNameUnknown] if there is no such
// repository.
func (s *Storage) TagNames(ctx context.Context, repository, after string, limit int) ([]string, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]string, error) {
		names, err := tx.TagNames(repository, after, limit, NoList)
		if err == nil && len(names) == 0 {
			_, err = tx.Repository(repository)
		}
		return names, mapNotFound(err, oci.ErrNameUnknown)
	})
}

// Tag returns the tag name of repository, or [oci.ErrManifestUnknown].
func (s *Storage) Tag(ctx context.Context, repository, name string) (Tag, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (Tag, error) {
		tag, err := tx.Tag(repository, name)
		return tag, mapNotFound(err, oci.ErrManifestUnknown)
	})
}

// ManifestTags returns the names of the tags of repository that name d.
func (s *Storage) ManifestTags(ctx context.Context, repository string, d digest.Digest) ([]string, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]string, error) {
		rows, err := tx.TagsOf(repository, string(d))
		return convert(rows, func(row Tag) string { return row.Name }), err
	})
}

// SetTag makes the tag name the manifest d, which must be in repository.
func (s *Storage) SetTag(ctx context.Context, repository, name string, d digest.Digest) error {
	image := Image{Repository: repository, Root: d, Tags: []string{name}}
	return s.PutImages(ctx, []Image{image}, func(*metadb.Tx) error { return nil })
}

// checkTagUnmoved returns [oci.ErrDenied] if a tag names another manifest than d.
func checkTagUnmoved(tx *metadb.Tx, repository, name string, d digest.Digest) error {
	old, err := tx.Tag(repository, name)
	if err == nil && old.Digest != d {
		return oci.ErrDenied.With("tag %s of %s exists, and stays where it is", name, repository)
	}
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	return err
}

// putTag sets a tag, if the manifest is here.
func (c *change) putTag(name string, d digest.Digest) error {
	if err := c.checkWritable(); err != nil {
		return err
	}
	has, err := c.tx.HasManifest(c.repository, string(d))
	if err != nil {
		return err
	}
	if !has {
		return oci.ErrManifestUnknown
	}
	if err := c.tx.TouchRepository(c.repository, c.now()); err != nil {
		return err
	}
	return c.setTag(name, d)
}

// setTag sets a tag, unless it names d already.
func (c *change) setTag(name string, d digest.Digest) error {
	old, err := c.tx.Tag(c.repository, name)
	switch {
	case errors.Is(err, metadb.ErrNotFound):
	case err != nil:
		return err
	case old.Digest == d:
		return c.inheritTagLocks(old)
	case old.Locks&NoWrite != 0 && !c.unlocked:
		return errLocked("writing tag "+name+" of "+c.repository, NoWrite)
	}
	seq, err := c.number()
	if err != nil {
		return err
	}
	if err := c.tx.SetTag(c.repository, name, string(d), seq, c.now()); err != nil {
		return err
	}
	if old.Name != "" {
		if err := c.released(old.Digest); err != nil {
			return err
		}
	}
	c.pushed(name, d)
	if err := c.recordTag(name, old.Digest, d); err != nil {
		return err
	}
	if err := c.referenced(string(d)); err != nil {
		return err
	}
	if old.Name == "" && d == c.added { // a new tag of a new manifest affects no other item
		return nil
	}
	return c.relistReferrers()
}

// inheritTagLocks gives a tag the locks of the parent's listing, if that has any.
func (c *change) inheritTagLocks(tag Tag) error {
	locks, known, err := c.tx.ParentLock(c.repository, tag.Name)
	if err != nil || !known {
		return err
	}
	return c.setLocks(tag.Name, tag.Locks, locks)
}

// DeleteTag deletes a tag. The manifest that it named stays.
func (s *Storage) DeleteTag(ctx context.Context, repository, name string, notes ...Note) error {
	return s.removeTag(ctx, repository, name, byClient, notes)
}

func (s *Storage) removeTag(ctx context.Context, repository, name string, by author, notes []Note) error {
	err := s.update(ctx, repository, s.remove, func(c *change) error {
		if err := by(c, name); err != nil {
			return err
		}
		return c.deleteTag(name, notes)
	})
	if mayHaveWritten(err) {
		s.cache.forget(repository, name)
	}
	return err
}

func (c *change) deleteTag(name string, notes []Note) error {
	tag, err := c.tx.Tag(c.repository, name)
	if err != nil {
		return mapNotFound(err, oci.ErrManifestUnknown)
	}
	if err := c.checkRemovable("tag "+name, tag.Locks); err != nil {
		return err
	}
	if err := c.tx.TouchRepository(c.repository, c.now()); err != nil {
		return err
	}
	if err := c.removeTag(tag); err != nil {
		return err
	}
	c.deleted(name, Manifest{Digest: tag.Digest})
	return writeNotes(c.tx, notes)
}

func (c *change) removeTag(tag Tag) error {
	if err := c.tx.DeleteTag(c.repository, tag.Name); err != nil {
		return err
	}
	if err := c.recordTag(tag.Name, tag.Digest, ""); err != nil {
		return err
	}
	if err := c.removed(tag.Name); err != nil {
		return err
	}
	if err := c.released(tag.Digest); err != nil {
		return err
	}
	return c.relistReferrers()
}
