package storage

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Manifest returns the manifest of repository that reference, a tag or a digest, names, or
// [oci.ErrManifestUnknown]. A manifest that was read recently comes from a cache without a
// query. The cache has all writes of this process, but misses those of other processes to the
// same database. The payload of a manifest of more than [metadb.MaxInRow] bytes is nil: see
// [Storage.OpenPayload].
func (s *Storage) Manifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	m, err := s.cachedManifest(ctx, repository, reference)
	if err == nil && m.Locks&NoRead != 0 {
		return nil, errLocked("reading "+reference+" of "+repository, NoRead)
	}
	return m, err
}

// cachedManifest is [Storage.Manifest] without regard to locks.
func (s *Storage) cachedManifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	m, generation := s.cache.get(repository, reference)
	if m != nil {
		return m, nil
	}
	m, err := s.readManifest(ctx, repository, reference)
	if err == nil {
		s.cache.put(repository, reference, m, generation)
	}
	return m, err
}

func (s *Storage) readManifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	m, err := metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (*Manifest, error) {
		pull := tx.ManifestByTag
		if oci.IsDigest(reference) {
			pull = tx.ManifestByDigest
		}
		row, err := pull(repository, reference)
		if errors.Is(err, metadb.ErrNotFound) {
			err = unknownManifest(tx, repository, reference)
		}
		if err != nil {
			return nil, err
		}
		return &row, nil
	})
	if err == nil {
		err = s.checkPayload(ctx, m)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// unknownManifest returns the error for a manifest that is not here, with the reason if there
// is one.
func unknownManifest(tx *metadb.Tx, repository, reference string) error {
	e := oci.ErrManifestUnknown
	if oci.IsDigest(reference) {
		left, err := tx.IsOmitted(repository, reference)
		if err != nil {
			return err
		}
		if left {
			e = e.With("this registry keeps the image, but not for this platform")
		}
	}
	return e.WithDetail(map[string]string{"repository": repository, "reference": reference})
}

// DescribeManifest returns the manifest d of repository, or [oci.ErrManifestUnknown]. It is for
// the management of content, not for pulls: it has only the manifest's own locks, and ignores
// locks on reading. The payload is as that of [Storage.Manifest].
func (s *Storage) DescribeManifest(ctx context.Context, repository string, d digest.Digest) (Manifest, error) {
	m, err := metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (Manifest, error) {
		m, err := tx.Manifest(repository, string(d))
		return m, mapNotFound(err, oci.ErrManifestUnknown)
	})
	if err == nil {
		err = s.checkPayload(ctx, &m)
	}
	return m, err
}

// HasManifest reports whether repository has the manifest d, and the manifest is not damaged.
func (s *Storage) HasManifest(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	return metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (bool, error) { return tx.HasManifest(repository, string(d)) })
}

// Manifests returns up to limit manifests of repository after the digest after, in order o and
// without their payloads. It leaves out those whose listing is locked, and ignores o.After. If
// after is "", it begins with the first. The error is [oci.ErrManifestUnknown] if the order of after
// is unknown because it was deleted.
func (s *Storage) Manifests(
	ctx context.Context, repository string, o ManifestOrder, after digest.Digest, limit int,
) ([]Manifest, error) {
	o.After = Manifest{Digest: after}
	return s.listManifests(ctx, repository, func(tx *metadb.Tx) (_ []Manifest, err error) {
		if after != "" && o.ByTime {
			if o.After, err = tx.Manifest(repository, string(after)); err != nil {
				return nil, mapNotFound(err, oci.ErrManifestUnknown)
			}
		}
		return tx.ManifestsInOrder(repository, o, limit, NoList)
	})
}

// UnreferencedManifests returns up to limit manifests of repository after the digest after, by
// digest and without their payloads, that no tag names and no index holds. They are found only by
// digest, or as referrers of their subject.
func (s *Storage) UnreferencedManifests(ctx context.Context, repository, after string, limit int) ([]Manifest, error) {
	return s.listManifests(ctx, repository, func(tx *metadb.Tx) ([]Manifest, error) {
		return tx.UnreferencedManifests(repository, after, limit)
	})
}

func (s *Storage) listManifests(
	ctx context.Context, repository string, read func(*metadb.Tx) ([]Manifest, error),
) ([]Manifest, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]Manifest, error) {
		if _, err := tx.Repository(repository); err != nil {
			return nil, mapNotFound(err, oci.ErrNameUnknown)
		}
		return read(tx)
	})
}

// IsUnreferenced reports whether no tag names the manifest d and no index holds it.
func (s *Storage) IsUnreferenced(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (bool, error) { return tx.IsUnreferenced(repository, string(d)) })
}

// A ReferrerPage selects the referrers to list.
type ReferrerPage struct {
	ArtifactType string        // only of this type; "" is all types
	After        digest.Digest // only those after this one; "", or one that was deleted, is the first page
	Limit        int
}

// Referrers returns descriptors of the manifests of repository whose subject is d, oldest
// first. The subject itself need not be here. Each has at most 16 KiB of annotations; the
// longest are left out.
func (s *Storage) Referrers(
	ctx context.Context, repository string, d digest.Digest, page ReferrerPage,
) ([]oci.Descriptor, error) {
	rows, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]Manifest, error) {
		return tx.Referrers(repository, string(d), page.ArtifactType, string(page.After), page.Limit)
	})
	if err != nil {
		return nil, err
	}
	var all []oci.Descriptor
	for _, row := range rows {
		desc := oci.Descriptor{
			MediaType: row.MediaType, Digest: row.Digest, Size: row.Size, ArtifactType: row.ArtifactType,
		}
		if err := json.Unmarshal([]byte(row.Annotations), &desc.Annotations); err != nil {
			return nil, err
		}
		all = append(all, desc)
	}
	return all, nil
}

// ReferrerDigests returns the digests of all manifests of repository whose subject is d, oldest
// first.
func (s *Storage) ReferrerDigests(ctx context.Context, repository string, d digest.Digest) ([]digest.Digest, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]digest.Digest, error) {
		all, err := tx.ReferrerDigests(repository, string(d))
		return convert(all, func(text string) digest.Digest { return digest.Digest(text) }), err
	})
}

// DeleteManifest deletes the manifest d of repository and the tags that name it. A manifest
// that an index holds is not deleted: the error is [oci.ErrDenied]. Its referrers stay, and can
// be pulled by digest.
func (s *Storage) DeleteManifest(ctx context.Context, repository string, d digest.Digest, notes ...Note) error {
	return s.deleteManifest(ctx, repository, d, byClient, notes)
}

func (s *Storage) deleteManifest(
	ctx context.Context, repository string, d digest.Digest, by author, notes []Note,
) error {
	var tags []string
	err := s.update(ctx, repository, s.remove, func(c *change) (err error) {
		rows, err := c.tx.TagsOf(repository, string(d))
		if err != nil {
			return err
		}
		names := convert(rows, func(row Tag) string { return row.Name })
		if err := by(c, append(names, string(d))...); err != nil {
			return err
		}
		if tags, err = c.deleteManifest(d); err != nil {
			return err
		}
		return writeNotes(c.tx, notes)
	})
	if mayHaveWritten(err) {
		s.cache.forget(repository, append(tags, string(d))...)
	}
	return err
}

// deleteManifest deletes a manifest, and returns the tags that named it, which it deletes, too.
func (c *change) deleteManifest(d digest.Digest) (gone []string, err error) {
	row, err := c.tx.ManifestByDigest(c.repository, string(d))
	if err != nil {
		return nil, mapNotFound(err, oci.ErrManifestUnknown)
	}
	if err := c.checkRemovable("manifest "+string(d), row.Locks); err != nil {
		return nil, err
	}
	parent, err := c.tx.ParentOf(c.repository, string(d))
	if err != nil {
		return nil, err
	}
	if parent != "" {
		return nil, oci.ErrDenied.With("manifest is part of index %s; delete that first", parent)
	}
	tags, err := c.tx.TagsOf(c.repository, string(d))
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		if err := c.checkRemovable("tag "+tag.Name, tag.Locks); err != nil {
			return nil, err
		}
		if err := c.removeTag(tag); err != nil {
			return nil, err
		}
		c.deleted(tag.Name, row)
		gone = append(gone, tag.Name)
	}
	c.deleted("", row)
	return gone, c.removeManifest(d)
}

func (c *change) removeManifest(d digest.Digest) error {
	if err := c.relistReferrers(); err != nil { // while its references are still there
		return err
	}
	if err := c.releasedBelow(d); err != nil {
		return err
	}
	if err := c.tx.DeleteManifest(c.repository, string(d), c.Uptime()); err != nil {
		return err
	}
	if err := c.tx.MarkReferrers(c.repository, string(d)); err != nil {
		return err
	}
	if err := c.tx.TouchRepository(c.repository, c.now()); err != nil {
		return err
	}
	if err := c.recordManifest(string(d), ""); err != nil {
		return err
	}
	return c.removed(string(d))
}
