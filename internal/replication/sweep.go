package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// remove takes away what left the source, in every repository in which
// nothing new is still missing, and then the manifests that nothing leads to
// any more.
func (e *Engine) remove(ctx context.Context, result *Result) error {
	waiting := map[string]bool{} // repositories whose new content is not all here
	var gone []metadb.SyncItem
	repository, item := "", ""
	for {
		rows, err := e.open(ctx, repository, item)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			if row.Digest == "" {
				gone = append(gone, row)
			} else {
				waiting[row.Repository] = true
			}
			repository, item = row.Repository, row.Item
		}
	}
	for _, row := range gone {
		if waiting[row.Repository] {
			continue
		}
		if err := e.removeItem(ctx, row); err != nil {
			return err
		}
		result.Removed++
	}
	return e.sweep(ctx, waiting)
}

// removeItem removes a tag, or a manifest that was wanted by its digest if
// nothing else leads to it, and then the item.
func (e *Engine) removeItem(ctx context.Context, row metadb.SyncItem) error {
	var err error
	if row.Tag != "" {
		err = e.storage.DeleteTag(ctx, row.Repository, row.Tag, Origin)
	} else {
		err = e.removeLoose(ctx, row.Repository, digest.Digest(row.Item))
	}
	if err != nil && !errors.Is(err, oci.ErrManifestUnknown) && !errors.Is(err, oci.ErrDenied) {
		return fmt.Errorf("remove %s %s: %w", row.Repository, row.Item, err)
	}
	return e.db.Update(ctx, func(tx *metadb.Tx) error {
		now, err := tx.SyncItem(row.Repository, row.Item)
		if errors.Is(err, metadb.ErrNotFound) || err == nil && now.Digest != "" {
			return nil // it came back meanwhile
		}
		if err != nil {
			return err
		}
		return tx.DeleteSyncItem(row.Repository, row.Item)
	})
}

func (e *Engine) removeLoose(ctx context.Context, repository string, d digest.Digest) error {
	loose, err := e.storage.IsLoose(ctx, repository, d)
	if err != nil || !loose {
		return err
	}
	return e.storage.DeleteManifest(ctx, repository, d, Origin)
}

// sweep removes the manifests to which no tag, no index, no item and no
// subject leads: the old image of a tag that moved, the children of an index
// that went. A repository with nothing left in it goes as a whole.
func (e *Engine) sweep(ctx context.Context, waiting map[string]bool) error {
	for after := ""; ; {
		repositories, err := e.storage.Repositories(ctx, after, page)
		if err != nil || len(repositories) == 0 {
			return err
		}
		for _, r := range repositories {
			after = r.Name
			if waiting[r.Name] {
				continue
			}
			if err := e.sweepRepository(ctx, r.Name); err != nil {
				return fmt.Errorf("sweep %s: %w", r.Name, err)
			}
		}
	}
}

func (e *Engine) sweepRepository(ctx context.Context, repository string) error {
	for again := true; again; { // what a removed index held is loose only now
		again = false
		for after := ""; ; {
			loose, err := e.storage.LooseManifests(ctx, repository, after, page)
			if err != nil {
				return err
			}
			for _, m := range loose {
				after = string(m.Digest)
				needed, err := e.needed(ctx, repository, m.Digest, m.Subject)
				if err != nil {
					return err
				}
				if needed {
					continue
				}
				err = e.storage.DeleteManifest(ctx, repository, m.Digest, Origin)
				if err != nil && !errors.Is(err, oci.ErrManifestUnknown) && !errors.Is(err, oci.ErrDenied) {
					return err
				}
				again = again || err == nil
			}
			if len(loose) < page {
				break
			}
		}
	}
	return e.dropEmpty(ctx, repository)
}

// needed reports whether an item asks for the manifest, or its subject is here.
func (e *Engine) needed(ctx context.Context, repository string, d, subject digest.Digest) (needed bool, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		if needed, err = tx.WantsManifest(repository, string(d)); err != nil || needed || subject == "" {
			return err
		}
		needed, err = tx.HasManifest(repository, string(subject))
		return err
	})
	return needed, err
}

// dropEmpty removes a repository that has no content and no item.
func (e *Engine) dropEmpty(ctx context.Context, repository string) error {
	r, err := e.storage.Repository(ctx, repository)
	if errors.Is(err, oci.ErrNameUnknown) || err == nil && r.Manifests+r.Tags > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var items []metadb.SyncItem
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		items, err = tx.SyncItems(repository, "", 1)
		return err
	})
	if err != nil || len(items) > 0 && items[0].Repository == repository {
		return err
	}
	return e.storage.DeleteRepository(ctx, repository, Origin)
}
