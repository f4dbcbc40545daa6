package storage

import (
	"context"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Locks of a connected registry are the parent's decisions. They come with the listings, are
// recorded for content that is not here yet, and belong to it from the transaction on that makes it
// visible.

// ParentLocks writes the locks that a parent's listings have.
type ParentLocks struct {
	s       *Storage
	tx      *metadb.Tx
	changes map[string]*change // by repository
}

// RecordFromParent runs fn in a transaction in which it records listings and their locks. After the
// commit, clients and children see the locks. fn may run twice.
func (s *Storage) RecordFromParent(ctx context.Context, fn func(*metadb.Tx, *ParentLocks) error) error {
	p := &ParentLocks{s: s}
	err := s.remove(ctx, func(tx *metadb.Tx) error {
		p.tx, p.changes = tx, map[string]*change{}
		return fn(tx, p)
	})
	for repository, c := range p.changes {
		s.cache.forgetRepository(repository)
		if err == nil && c.seq > 0 {
			s.watchers.notify(repository)
		}
	}
	return err
}

// Set records the locks of a tag, of a manifest by its digest, or of the repository if item is "". It
// changes the locks of content that is here. A tag that names another manifest than the parent's,
// because the new one is not here yet, has current false: it is only locked, and unlocked when it
// moves.
func (p *ParentLocks) Set(repository, item string, locks Locks, current bool) error {
	c := p.changes[repository]
	if c == nil {
		c = &change{Storage: p.s, tx: p.tx, repository: repository}
		p.changes[repository] = c
	}
	old, err := c.locksOf(item)
	if e := oci.AsError(err); e != nil && e.Status < 500 { // it is not here
		old, current, err = locks, true, nil
	}
	if err != nil {
		return err
	}
	now := locks
	if !current {
		now |= old
	}
	if err := c.setLocks(item, old, now); err != nil {
		return err
	}
	if now == 0 {
		return p.tx.DeleteParentLock(repository, item)
	}
	return p.tx.SetParentLock(repository, item, locks)
}

// Forget deletes the record of an item that the parent does not list any more. What is here keeps its
// locks until it is removed.
func (p *ParentLocks) Forget(repository, item string) error {
	return p.tx.DeleteParentLock(repository, item)
}

// ForgetRepository is Forget for a repository and everything in it.
func (p *ParentLocks) ForgetRepository(repository string) error {
	return p.tx.DeleteParentLocks(repository)
}

// IsListed reports whether a source lists the manifest, or an index that holds it.
func (p *ParentLocks) IsListed(repository, digest string) (bool, error) {
	return isListed(p.tx, repository, digest, maxIndexDepth)
}

// maxIndexDepth is how many levels of indexes within indexes are looked at.
const maxIndexDepth = 8

func isListed(tx *metadb.Tx, repository, digest string, depth int) (bool, error) {
	listed, err := tx.HasSyncItemOf(repository, digest)
	if err != nil || listed || depth == 0 {
		return listed, err
	}
	indexes, err := tx.IndexesOf(repository, digest)
	for _, index := range indexes {
		if listed, err := isListed(tx, repository, index, depth-1); err != nil || listed {
			return listed, err
		}
	}
	return false, err
}
