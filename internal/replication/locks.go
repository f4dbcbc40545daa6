package replication

import (
	"errors"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// applyLocks records the locks of a listing. Locks apply at once to what is here; only a tag that is
// to move keeps its own until it moves, besides the new ones. gone are the items that left the
// listing: they keep their locks until they are removed, so that locked content is not served in
// the meantime.
func applyLocks(tx *metadb.Tx, locks *storage.ParentLocks, l Listing, gone []string) error {
	recorded, err := tx.ParentLocks(l.Repository)
	if err != nil {
		return err
	}
	if len(l.Items) == 0 && l.After == "" && !l.Short { // the repository was deleted, or is out of scope
		return locks.ForgetRepository(l.Repository)
	}
	if l.Locks != recorded[""] {
		if err := locks.Set(l.Repository, "", l.Locks, true); err != nil {
			return err
		}
	}
	for _, item := range l.Items {
		if item.Locks == recorded[item.Name()] {
			continue
		}
		current, err := isCurrent(tx, l.Repository, item)
		if err == nil {
			err = locks.Set(l.Repository, item.Name(), item.Locks, current)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range gone {
		if _, ok := recorded[name]; !ok {
			continue
		}
		if err := unlockGone(locks, l.Repository, name); err != nil {
			return err
		}
	}
	return nil
}

// isCurrent reports whether a listed item is a manifest, or a tag that names the source's manifest
// here.
func isCurrent(tx *metadb.Tx, repository string, item ListedItem) (bool, error) {
	if item.Tag == "" {
		return true, nil
	}
	tag, err := tx.Tag(repository, item.Tag)
	if errors.Is(err, metadb.ErrNotFound) {
		return false, nil
	}
	return tag.Digest == item.Digest, err
}

// unlockGone unlocks a manifest that is no item any more because it is not locked any more. If
// nothing leads to the manifest, it left the listing for another reason, and keeps its locks.
func unlockGone(locks *storage.ParentLocks, repository, name string) error {
	if !oci.IsDigest(name) {
		return locks.Forget(repository, name)
	}
	listed, err := locks.IsListed(repository, name)
	if err != nil {
		return err
	}
	if listed {
		return locks.Set(repository, name, 0, true)
	}
	return locks.Forget(repository, name)
}

// lockedItem returns the row of a new item that is listed because it is locked. It is synced if the
// manifest is here already, because other items lead to it.
func (e *Engine) lockedItem(tx *metadb.Tx, row metadb.SyncItem) (metadb.SyncItem, error) {
	m, err := tx.Manifest(row.Repository, row.Digest)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && m.Damaged {
		return row, nil
	}
	whole := true
	if err == nil && oci.IsIndex(m.MediaType) { // its part here is the one of another item
		whole, err = tx.HasSyncedItem(e.name, row.Repository, digest.Digest(row.Digest), row.Part)
	}
	if err == nil && whole {
		row.State, row.SyncedAt = Synced, e.now()
	}
	return row, err
}

// locksMatch reports whether the recorded locks of a repository match the listing's sum.
func locksMatch(tx *metadb.Tx, l Listing) (bool, error) {
	recorded, err := tx.ParentLocks(l.Repository)
	var sum subscription.Checksum
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		sum.AddLocks(name, int(recorded[name]))
	}
	return sum.String() == l.LockSum, err
}
