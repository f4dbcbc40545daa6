package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// remove removes what left the source, in every repository in which nothing new
// is still to come, and then the manifests that nothing references any more. A
// repository whose new content fails keeps its old content. Content that fails
// for good keeps only what it would have replaced: see [run.replaced].
func (r *run) remove(ctx context.Context) error {
	waiting, err := r.repositories(ctx, metadb.HoldingSyncItem)
	if err != nil {
		return err
	}
	kept, err := r.replaced(ctx, waiting)
	if err != nil {
		return err
	}
	if err := r.removeItems(ctx, waiting, kept); err != nil {
		return err
	}
	kind := metadb.GoneSyncItem
	if !r.pruned { // a crash may have come between a tag's move and the pruning
		kind = metadb.AnySyncItem
	}
	repositories, err := r.repositories(ctx, kind)
	if err != nil {
		return err
	}
	for repository := range r.touched {
		repositories[repository]++
	}
	for repository := range repositories {
		if waiting[repository] > 0 {
			continue
		}
		if err := r.pruneRepository(ctx, repository, kept[repository]); err != nil {
			return fmt.Errorf("prune %s: %w", repository, err)
		}
		delete(r.touched, repository)
	}
	r.pruned = true
	return nil
}

func (r *run) removeItems(ctx context.Context, waiting map[string]int, kept map[string]digestSet) error {
	repository, item := "", ""
	for {
		rows, err := r.Items(ctx, metadb.LeavingSyncItem, repository, item, page)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			repository, item = row.Repository, row.Item
			if waiting[row.Repository] > 0 || kept[row.Repository].keeps(row) {
				continue
			}
			if err := r.removeItem(ctx, row); err != nil {
				return err
			}
			r.result.Removed++
		}
	}
}

// removeItem removes a tag, or a manifest that was wanted by its digest if
// nothing else references it. The item itself is deleted when its repository is
// pruned.
func (r *run) removeItem(ctx context.Context, row metadb.SyncItem) error {
	var err error
	if row.Tag != "" {
		err = r.storage.DeleteTag(ctx, row.Repository, row.Tag)
	} else {
		err = r.removeLoose(ctx, row.Repository, digest.Digest(row.Item))
	}
	if err != nil && !stays(err) {
		return fmt.Errorf("remove %s %s: %w", row.Repository, row.Item, err)
	}
	return r.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error { return r.settle(tx, row, nil) })
}

// stays reports whether err says that there is nothing to remove, or that it is
// locked.
func stays(err error) bool {
	return errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrDenied)
}

func (r *run) removeLoose(ctx context.Context, repository string, d digest.Digest) error {
	loose, err := r.storage.IsUnreferenced(ctx, repository, d)
	if err != nil || !loose {
		return err
	}
	return r.storage.DeleteManifest(ctx, repository, d)
}

// pruneRepository removes the manifests of a repository that no tag, no index and no
// item references: the old image of a tag that moved, the children of an index
// that was removed. A repository with nothing left in it is deleted.
func (r *run) pruneRepository(ctx context.Context, repository string, kept digestSet) error {
	after, removed := "", false
	for {
		loose, err := r.storage.UnreferencedManifests(ctx, repository, after, page)
		if errors.Is(err, oci.ErrNameUnknown) {
			break
		}
		if err != nil {
			return err
		}
		for _, m := range loose {
			after = string(m.Digest)
			needed, err := r.needed(ctx, repository, m.Digest, m.Subject)
			if err != nil {
				return err
			}
			if needed || kept[m.Digest] {
				continue
			}
			err = r.storage.DeleteManifest(ctx, repository, m.Digest)
			if err != nil && !stays(err) {
				return err
			}
			removed = removed || err == nil
		}
		if len(loose) == page {
			continue
		}
		if !removed {
			break
		}
		after, removed = "", false // the children of a removed index are unreferenced only now
	}
	return r.dropEmpty(ctx, repository)
}

// needed reports whether an item asks for the manifest or, if others write here,
// too, whether it was pushed for itself or for a subject that is here.
func (r *run) needed(ctx context.Context, repository string, d, subject digest.Digest) (bool, error) {
	return metadb.Read(ctx, r.db, func(tx *metadb.Tx) (bool, error) {
		if needed, err := tx.WantsManifest(repository, string(d)); err != nil || needed || r.prune == PruneAll {
			return needed, err
		}
		if needed, err := tx.NeverReferenced(repository, string(d)); err != nil || needed || subject == "" {
			return needed, err
		}
		return tx.KnowsManifest(repository, string(subject))
	})
}

// dropEmpty forgets the items that were removed, and deletes a repository that
// has no content and no item then.
func (r *run) dropEmpty(ctx context.Context, repository string) error {
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
	err = r.storage.DeleteRepository(ctx, repository)
	if stays(err) || errors.Is(err, oci.ErrNameUnknown) {
		return nil
	}
	return err
}
