package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// removeOldContent removes the items that left the source, and then the manifests that
// nothing references any more. It skips repositories with pending items, because nothing
// is removed before its replacement is complete. A permanently failed item retains only
// the content that it would have replaced: see [run.retainedManifests].
func (r *run) removeOldContent(ctx context.Context) error {
	waiting, err := r.repositories(ctx, metadb.AwaitedSyncItem)
	if err != nil {
		return err
	}
	retained, err := r.retainedManifests(ctx, waiting)
	if err != nil {
		return err
	}
	if err := r.removeItems(ctx, waiting, retained); err != nil {
		return err
	}
	kind := metadb.GoneSyncItem
	if !r.prunedAll { // the last process may have ended between moving a tag and pruning
		kind = metadb.AnySyncItem
	}
	repositories, err := r.repositories(ctx, kind)
	if err != nil {
		return err
	}
	for repository := range r.toPrune {
		repositories[repository]++
	}
	for repository := range repositories {
		if waiting[repository] > 0 {
			continue
		}
		if err := r.pruneRepository(ctx, repository, retained[repository]); err != nil {
			return fmt.Errorf("prune %s: %w", repository, err)
		}
		delete(r.toPrune, repository)
	}
	r.prunedAll = true
	return nil
}

func (r *run) removeItems(ctx context.Context, waiting map[string]int, retained map[string]digestSet) error {
	repository, item := "", ""
	for {
		rows, err := r.Items(ctx, metadb.LeavingSyncItem, repository, item, pageSize)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			repository, item = row.Repository, row.Item
			if waiting[row.Repository] > 0 || retained[row.Repository].contains(row) {
				continue
			}
			if err := r.removeItem(ctx, row); err != nil {
				return err
			}
			r.result.Removed++
		}
	}
}

// removeItem removes a tag, or an untagged manifest that nothing else references. The row
// of the item is deleted when its repository is pruned.
func (r *run) removeItem(ctx context.Context, row metadb.SyncItem) error {
	var err error
	if row.Tag != "" {
		err = r.content.DeleteTag(ctx, row.Repository, row.Tag)
	} else {
		err = r.removeUnreferenced(ctx, row.Repository, digest.Digest(row.Item))
	}
	if err != nil && !cannotRemove(err) {
		return fmt.Errorf("remove %s %s: %w", row.Repository, row.Item, err)
	}
	return r.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error { return r.recordItem(tx, row, nil) })
}

// cannotRemove reports whether err says that the content is locked or does not exist, or that a client
// changed it here meanwhile.
func cannotRemove(err error) bool {
	return errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrDenied) || errors.Is(err, storage.ErrUnsent)
}

func (r *run) removeUnreferenced(ctx context.Context, repository string, d digest.Digest) error {
	unreferenced, err := r.storage.IsUnreferenced(ctx, repository, d)
	if err != nil || !unreferenced {
		return err
	}
	return r.content.DeleteManifest(ctx, repository, d)
}

// pruneRepository removes the manifests of a repository that no tag, index or item
// references, such as the old image of a tag that moved, or the children of a removed
// index. It deletes the repository if nothing is left in it.
func (r *run) pruneRepository(ctx context.Context, repository string, retained digestSet) error {
	after, removed := "", false
	for {
		unreferenced, err := r.storage.UnreferencedManifests(ctx, repository, after, pageSize)
		if errors.Is(err, oci.ErrNameUnknown) {
			break
		}
		if err != nil {
			return err
		}
		for _, m := range unreferenced {
			after = string(m.Digest)
			needed, err := r.isNeeded(ctx, repository, m.Digest, m.Subject)
			if err != nil {
				return err
			}
			if needed || retained[m.Digest] {
				continue
			}
			err = r.content.DeleteManifest(ctx, repository, m.Digest)
			if err != nil && !cannotRemove(err) {
				return err
			}
			removed = removed || err == nil
		}
		if len(unreferenced) == pageSize {
			continue
		}
		if !removed {
			break
		}
		after, removed = "", false // the children of a removed index are unreferenced only now
	}
	return r.deleteIfEmpty(ctx, repository)
}

// isNeeded reports whether an unreferenced manifest stays: an item names it or, unless the
// source owns the repository, a client pushed it without a tag, or as a referrer of a stored
// subject.
func (r *run) isNeeded(ctx context.Context, repository string, d, subject digest.Digest) (bool, error) {
	return metadb.Read(ctx, r.db, func(tx *metadb.Tx) (bool, error) {
		if needed, err := tx.HasSyncItemOf(repository, string(d)); err != nil || needed || r.pruneMode == PruneAll {
			return needed, err
		}
		if needed, err := tx.NeverReferenced(repository, string(d)); err != nil || needed || subject == "" {
			return needed, err
		}
		return tx.KnowsManifest(repository, string(subject))
	})
}

// deleteIfEmpty deletes the rows of removed items, and then the repository if it has
// neither items nor content.
func (r *run) deleteIfEmpty(ctx context.Context, repository string) error {
	var items []metadb.SyncItem
	err := r.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		if err := tx.DeleteGoneSyncItems(r.name, repository); err != nil {
			return err
		}
		items, err = tx.SyncItems(r.name, metadb.AnySyncItem, repository, "", 1)
		return err
	})
	if err != nil || len(items) > 0 && items[0].Repository == repository {
		return err
	}
	known, err := r.storage.Repository(ctx, repository)
	if errors.Is(err, oci.ErrNameUnknown) || err == nil && known.Manifests+known.Tags > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	err = r.content.DeleteRepository(ctx, repository)
	if cannotRemove(err) || errors.Is(err, oci.ErrNameUnknown) {
		return nil
	}
	return err
}
