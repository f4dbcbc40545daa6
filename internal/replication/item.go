package replication

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// page is how many items are read, and planned, at once: enough to fill a link
// for many round trips, few enough that their manifests fit into memory.
const page = 200

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
		rows, err := tx.SyncItems(e.name, repository, item, limit)
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

// open returns up to page items after (repository, item) that are not synced.
func (e *Engine) open(ctx context.Context, repository, item string) (rows []metadb.SyncItem, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err = tx.OpenSyncItems(e.name, repository, item, page)
		return err
	})
	return rows, err
}

// settle notes how a try at an item ended, unless the item has moved on
// meanwhile: then the next Sync has to look at it again anyway.
func (e *Engine) settle(ctx context.Context, row metadb.SyncItem, failure error) error {
	return e.db.Update(ctx, func(tx *metadb.Tx) error {
		now, err := tx.SyncItem(e.name, row.Repository, row.Item)
		if errors.Is(err, metadb.ErrNotFound) || err == nil && (now.Digest != row.Digest || !now.ChangedAt.Equal(row.ChangedAt)) {
			return nil
		}
		if err != nil {
			return err
		}
		now.State, now.Error = string(Synced), ""
		if failure != nil {
			now.State, now.Error = string(Failed), failure.Error()
		} else {
			now.SyncedAt = e.now()
		}
		return tx.PutSyncItem(now)
	})
}
