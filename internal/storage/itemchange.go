package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// An ItemChange is a change of an item that a child sends to this registry.
type ItemChange struct {
	Repository string
	Tag        string        // "" for a manifest without a tag, and for the repository
	Manifest   digest.Digest // "" for a tag, and for the repository
	Digest     digest.Digest // what the item is now: stored here already; "" removes the item
	// Base is the digest that the tag had at the child when a client first changed it, "" if none. Earlier are
	// digests that it may have because of the child's own earlier requests. With any other digest,
	// the tag was changed here, too, and stays.
	Base    digest.Digest
	Earlier []digest.Digest
	KeepAs  string // with such a conflict: the tag that Digest gets; "" is none
}

// An ItemOutcome is the outcome of an [ItemChange].
type ItemOutcome struct {
	Conflict bool
	Current  digest.Digest // of the tag, afterwards; "" if there is none
	Seq      int64         // the repository's sequence number afterwards
}

// ApplyChange applies a change that a child made, in one transaction. Content that something else
// still references stays. note returns what is written to the audit log with an outcome; nil is nothing.
// The error is [oci.ErrDenied] if a lock forbids the change, and
// [oci.ErrManifestUnknown] if Digest is not stored.
func (s *Storage) ApplyChange(
	ctx context.Context, ch ItemChange, note func(ItemOutcome) Note,
) (o ItemOutcome, err error) {
	by := s.remove
	if ch.Digest != "" {
		if err := s.checkReserve(); err != nil {
			return o, err
		}
		by = s.write
	}
	deleted := false
	err = s.update(ctx, ch.Repository, by, func(c *change) (err error) {
		c.records = s.sendsUp
		o, deleted = ItemOutcome{}, false
		switch {
		case ch.Tag != "":
			err = c.applyTag(ch, &o)
		case ch.Manifest != "":
			err = c.applyManifest(ch)
		default:
			deleted, err = c.deleteEmpty()
		}
		if write := note(o); err == nil && write != nil && (c.seq > 0 || o.Conflict) {
			err = write(c.tx)
		}
		if err != nil {
			return err
		}
		entry, err := c.tx.FeedEntry(ch.Repository)
		o.Seq = entry.Seq
		return err
	})
	s.cache.forget(ch.Repository, ch.Tag, ch.KeepAs, string(ch.Manifest))
	if deleted {
		s.cache.forgetRepository(ch.Repository)
	}
	return o, err
}

// applyTag sets or removes a tag, unless it was changed here, too.
func (c *change) applyTag(ch ItemChange, o *ItemOutcome) error {
	tag, err := c.tx.Tag(c.repository, ch.Tag)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	if ch.Digest != "" {
		has, err := c.tx.HasManifest(c.repository, string(ch.Digest))
		if err != nil {
			return err
		}
		if !has {
			return oci.ErrManifestUnknown
		}
	}
	o.Current = tag.Digest
	switch {
	case tag.Digest == ch.Digest:
		return nil
	case tag.Digest != ch.Base && !slices.Contains(ch.Earlier, tag.Digest):
		o.Conflict = true
		if ch.Digest == "" || ch.KeepAs == "" {
			return nil
		}
		return c.putTag(ch.KeepAs, ch.Digest)
	}
	o.Current = ch.Digest
	if ch.Digest != "" {
		return c.putTag(ch.Tag, ch.Digest)
	}
	if err := c.checkRemovable("tag "+ch.Tag, tag.Locks); err != nil {
		return err
	}
	if err := c.tx.TouchRepository(c.repository, c.now()); err != nil {
		return err
	}
	return c.removeTag(tag)
}

// applyManifest lists a pushed manifest as an item of its own, or deletes a manifest that nothing references.
func (c *change) applyManifest(ch ItemChange) error {
	has, err := c.tx.HasManifest(c.repository, string(ch.Manifest))
	if err != nil {
		return err
	}
	if ch.Digest != "" && !has {
		return oci.ErrManifestUnknown
	}
	unreferenced, err := c.tx.IsUnreferenced(c.repository, string(ch.Manifest))
	if err != nil || !has || !unreferenced {
		return err
	}
	row, err := c.tx.Manifest(c.repository, string(ch.Manifest))
	if err != nil {
		return err
	}
	if ch.Digest != "" {
		return c.listManifest(row)
	}
	if err := c.checkRemovable("manifest "+string(ch.Manifest), row.Locks); err != nil {
		return err
	}
	return c.removeManifest(ch.Manifest)
}

// listManifest makes a manifest without a tag an item of the repository.
func (c *change) listManifest(row Manifest) error {
	if !row.WasReferenced {
		return nil
	}
	seq, err := c.number()
	if err != nil {
		return err
	}
	if err := c.tx.MarkUnreferenced(c.repository, string(row.Digest), seq); err != nil {
		return err
	}
	return c.recordManifest(string(row.Digest), row.Digest)
}

// deleteEmpty deletes the repository if nothing is left in it.
func (c *change) deleteEmpty() (deleted bool, err error) {
	if err := checkRemovable(c.tx, c.repository); err != nil {
		if errors.Is(err, oci.ErrNameUnknown) {
			err = nil
		}
		return false, err
	}
	manifests, tags, err := c.tx.CountContent(c.repository)
	if err != nil || manifests+tags > 0 {
		return false, err
	}
	if err := c.relist(); err != nil {
		return false, err
	}
	if err := c.recordRemoval(); err != nil {
		return false, err
	}
	return true, c.tx.DeleteRepository(c.repository)
}
