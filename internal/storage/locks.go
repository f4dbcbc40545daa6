package storage

import (
	"context"
	"errors"
	"strings"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Locks are the attributes that protect content. The zero value locks nothing.
type Locks = metadb.Locks

// The locks, and what each forbids. Those of a repository hold for all its content. Those of a
// tag and of the manifest that it names are independent.
const (
	NoRead   Locks = 1 << iota // pulling
	NoWrite                    // pushing, moving a tag, and deleting
	NoDelete                   // deleting
	NoList                     // being listed
)

// noRemoval are the locks that forbid deletion.
const noRemoval = NoWrite | NoDelete

// LockNames returns the reference's names of the attributes that l sets to false, such as
// writeEnabled.
func LockNames(l Locks) (names []string) {
	for _, a := range []struct {
		lock Locks
		name string
	}{{NoRead, "readEnabled"}, {NoWrite, "writeEnabled"}, {NoDelete, "deleteEnabled"}, {NoList, "listEnabled"}} {
		if l&a.lock != 0 {
			names = append(names, a.name)
		}
	}
	return names
}

// errLocked returns [oci.ErrDenied], with the locks that forbid an action.
func errLocked(action string, locks Locks) error {
	names := LockNames(locks)
	are := "is"
	if len(names) > 1 {
		are = "are"
	}
	return oci.ErrDenied.With("%s is locked: %s %s false; ferry repository update at the root registry unlocks it",
		action, strings.Join(names, " and "), are).
		WithDetail(map[string][]string{"locked": names})
}

// A LockChange sets some locks and clears others. The rest are unchanged.
type LockChange struct{ Set, Clear Locks }

func (c LockChange) of(l Locks) Locks { return l&^c.Clear | c.Set }

// ChangeLocks changes the locks of a repository if reference is empty, else of a tag, or of a
// manifest by its digest. Concurrent changes are all applied. The change takes a sequence number of
// the feed, so that connected registries receive it.
func (s *Storage) ChangeLocks(ctx context.Context, repository, reference string, l LockChange, notes ...Note) error {
	err := s.update(ctx, repository, s.remove, func(c *change) error {
		locks, err := c.locksOf(reference)
		if err == nil {
			err = c.setLocks(reference, locks, l.of(locks))
		}
		if err != nil {
			return err
		}
		return writeNotes(c.tx, notes)
	})
	if mayHaveWritten(err) {
		s.cache.forgetRepository(repository)
	}
	return err
}

// locksOf returns the locks of the repository if reference is empty, else of a tag, or of a
// manifest by its digest.
func (c *change) locksOf(reference string) (Locks, error) {
	switch {
	case reference == "":
		row, err := c.tx.Repository(c.repository)
		return row.Locks, mapNotFound(err, oci.ErrNameUnknown)
	case oci.IsDigest(reference):
		row, err := c.tx.Manifest(c.repository, reference)
		return row.Locks, mapNotFound(err, oci.ErrManifestUnknown)
	}
	row, err := c.tx.Tag(c.repository, reference)
	return row.Locks, mapNotFound(err, oci.ErrManifestUnknown)
}

// setLocks changes the locks of what reference names, if they differ.
func (c *change) setLocks(reference string, old, locks Locks) error {
	if locks == old {
		return nil
	}
	seq, err := c.number()
	if err != nil {
		return err
	}
	switch {
	case reference == "":
		return c.tx.SetRepositoryLocks(c.repository, locks)
	case !oci.IsDigest(reference):
		return c.tx.SetTagLocks(c.repository, reference, locks, seq)
	}
	if err := c.tx.SetManifestLocks(c.repository, reference, locks, seq); err != nil || locks != 0 {
		return err
	}
	return c.removed(reference) // it is an item of its own only while it is locked
}

// CheckWritable returns [oci.ErrDenied] if the repository is locked against writing. The repository
// need not exist.
func (s *Storage) CheckWritable(ctx context.Context, repository string) error {
	return s.db.View(ctx, func(tx *metadb.Tx) error { return checkWritable(tx, repository) })
}

func checkWritable(tx *metadb.Tx, repository string) error {
	row, err := tx.Repository(repository)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err == nil && row.Locks&NoWrite != 0 {
		return errLocked("writing to repository "+repository, NoWrite)
	}
	return err
}

// checkRemovable returns [oci.ErrDenied] if the repository is locked against deletion, and
// [oci.ErrNameUnknown] if it does not exist.
func checkRemovable(tx *metadb.Tx, repository string) error {
	row, err := tx.Repository(repository)
	if err == nil && row.Locks&noRemoval != 0 {
		return errLocked("deleting from repository "+repository, row.Locks&noRemoval)
	}
	return mapNotFound(err, oci.ErrNameUnknown)
}

// checkWritable returns [oci.ErrDenied] if the repository is locked against writing, and the change
// respects locks.
func (c *change) checkWritable() error {
	if c.unlocked {
		return nil
	}
	return checkWritable(c.tx, c.repository)
}

// checkRemovable returns [oci.ErrDenied] if locks of the repository, or the locks of what is named,
// forbid deletion, and the change respects locks. It returns [oci.ErrNameUnknown] if the repository does
// not exist.
func (c *change) checkRemovable(named string, locks Locks) error {
	if c.unlocked {
		return nil
	}
	if err := checkRemovable(c.tx, c.repository); err != nil {
		return err
	}
	if locks&noRemoval != 0 {
		return errLocked("deleting "+named+" of "+c.repository, locks&noRemoval)
	}
	return nil
}
