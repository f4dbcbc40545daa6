package replication

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// ForgetSource forgets every item of a source, and the place in its feed.
// What is here stays. A Sync with the source that runs may note some again.
func ForgetSource(tx *metadb.Tx, source string) error {
	if err := tx.ForgetSource(source); err != nil {
		return err
	}
	if err := tx.Release(own(source, leaseHolder)); err != nil {
		return err
	}
	return tx.DeleteSettings(own(source, placeSetting))
}

// Items returns up to limit items after (repository, item), in order: item is
// the tag, or the digest of an item without one.
func (e *Engine) Items(ctx context.Context, repository, item string, limit int) (all []Item, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.SyncItems(e.name, metadb.AnySyncItem, repository, item, limit)
		for _, row := range rows {
			all = append(all, itemOf(row))
		}
		return err
	})
	return all, err
}

// Counts returns how many items are in each state.
func (e *Engine) Counts(ctx context.Context) (synced, pending, failed int, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		counts, err := tx.CountSyncItems(e.name)
		synced, pending, failed = counts[string(Synced)], counts[string(Pending)], counts[string(Failed)]
		return err
	})
	return synced, pending, failed, err
}

func itemOf(row metadb.SyncItem) Item {
	return Item{
		Repository: row.Repository, Name: row.Item, Tag: row.Tag, Digest: digest.Digest(row.Digest), State: State(row.State),
		Err: row.Error, ChangedAt: row.ChangedAt, SyncedAt: row.SyncedAt,
	}
}

// openItems returns up to page items after (repository, item) that are not synced.
func (e *Engine) openItems(ctx context.Context, repository, item string) (rows []metadb.SyncItem, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err = tx.SyncItems(e.name, metadb.OpenSyncItem, repository, item, page)
		return err
	})
	return rows, err
}
