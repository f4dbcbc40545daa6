package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// The names under which the engine's place is kept among the settings; see
// [Engine.own].
const (
	cursorSetting   = "sync-cursor"
	snapshotSetting = "sync-snapshot" // "<generation> <cursor>" of the one being read
)

// own makes a name the source's own.
func own(source, name string) string {
	if source == metadb.Parent {
		return name
	}
	return name + "/" + source
}

func (e *Engine) own(name string) string { return own(e.name, name) }

// Cursor returns the place in the source's feed up to which everything is
// among the items; 0 is none.
func (e *Engine) Cursor(ctx context.Context) (cursor int64, err error) {
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		text, err := tx.Setting(e.own(cursorSetting))
		if err == nil && text != "" {
			cursor, err = strconv.ParseInt(text, 10, 64)
		}
		return err
	})
	return cursor, err
}

func (e *Engine) setCursor(tx *metadb.Tx, cursor int64) error {
	return tx.SetSetting(e.own(cursorSetting), strconv.FormatInt(cursor, 10))
}

// ApplyChanges notes what changed at the source, and the cursor that follows,
// in one transaction. Nothing is fetched yet, unless a Sync runs that has
// nothing better to do.
func (e *Engine) ApplyChanges(ctx context.Context, changes []wire.Change, cursor int64) error {
	err := e.db.Update(ctx, func(tx *metadb.Tx) error {
		for _, c := range changes {
			if err := e.applyChange(tx, c); err != nil {
				return err
			}
		}
		return e.setCursor(tx, cursor)
	})
	if r := e.heeding(); err == nil && r != nil {
		for _, c := range changes {
			r.heed(c.Repository)
		}
	}
	return err
}

func (e *Engine) applyChange(tx *metadb.Tx, c wire.Change) error {
	i := metadb.SyncItem{Repository: c.Repository, Item: c.Tag, Tag: c.Tag}
	switch storage.ChangeKind(c.Kind) {
	case storage.TagSet:
		i.Digest = string(c.Digest)
	case storage.TagRemoved:
	case storage.ManifestAdded:
		i.Item, i.Tag, i.Digest = string(c.Digest), "", string(c.Digest)
	case storage.ManifestRemoved:
		i.Item, i.Tag = string(c.Digest), ""
	case storage.IndexChanged:
		return e.recheckIndex(tx, c.Repository, c.Digest)
	default:
		return nil // a kind that a newer parent knows
	}
	return e.want(tx, i)
}

// want notes an item, unless it is already known to be so.
func (e *Engine) want(tx *metadb.Tx, i metadb.SyncItem) error {
	i.Source, i.State = e.name, string(Pending)
	old, err := tx.SyncItem(e.name, i.Repository, i.Item)
	switch {
	case errors.Is(err, metadb.ErrNotFound) && i.Digest == "" && i.Tag == "":
		// Nothing is to be done about what is not here. It is noted for an image
		// on its way, which may bring it along: see retain.
		has, err := tx.HasManifest(i.Repository, i.Item)
		if err != nil {
			return err
		}
		if !has {
			i.State = string(Synced)
		}
	case errors.Is(err, metadb.ErrNotFound):
	case err != nil:
		return err
	case old.Digest == i.Digest:
		old.Seen = max(old.Seen, i.Seen)
		return tx.PutSyncItem(old)
	default:
		i.SyncedAt, i.Seen = old.SyncedAt, max(old.Seen, i.Seen)
	}
	i.ChangedAt = e.now()
	return tx.PutSyncItem(i)
}

// ApplySnapshot notes a page of everything that the source has. first says
// that it is the first page, whose cursor counts once the last page is noted;
// then, too, what no page had is to go. A snapshot that is not read to its
// end is begun again from its first page.
func (e *Engine) ApplySnapshot(ctx context.Context, items []wire.SnapshotItem, cursor int64, first, last bool) error {
	err := e.db.Update(ctx, func(tx *metadb.Tx) error {
		generation, cursor, err := e.snapshot(tx, cursor, first)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := e.want(tx, wanted(item, generation)); err != nil {
				return err
			}
		}
		if !last {
			return nil
		}
		if err := tx.DropUnseen(e.name, generation, e.now()); err != nil {
			return err
		}
		return e.setCursor(tx, cursor)
	})
	if r := e.heeding(); err == nil && last && r != nil {
		r.restart()
	}
	return err
}

// wanted is an item that the snapshot of generation has.
func wanted(item wire.SnapshotItem, generation int64) metadb.SyncItem {
	return metadb.SyncItem{
		Repository: item.Repository, Item: cmp.Or(item.Tag, string(item.Digest)), Tag: item.Tag, Digest: string(item.Digest), Seen: generation,
	}
}

// snapshot returns the number of the snapshot that is being read, so that
// what it had can be told from what an older one had, and the cursor of its
// first page.
func (e *Engine) snapshot(tx *metadb.Tx, cursor int64, first bool) (generation, firstCursor int64, err error) {
	if first {
		if generation, err = tx.Next(e.own(snapshotSetting)); err != nil {
			return 0, 0, err
		}
		return generation, cursor, tx.SetSetting(e.own(snapshotSetting), fmt.Sprintf("%d %d", generation, cursor))
	}
	text, err := tx.Setting(e.own(snapshotSetting))
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(text, "%d %d", &generation, &firstCursor); err != nil {
		return 0, 0, errors.New("note snapshot: no first page was noted")
	}
	return generation, firstCursor, nil
}

// Want notes items that are to be here beside those that are noted already.
// Nothing is fetched yet.
func (e *Engine) Want(ctx context.Context, items []wire.SnapshotItem) error {
	return e.db.Update(ctx, func(tx *metadb.Tx) error {
		for _, item := range items {
			if err := e.want(tx, wanted(item, 0)); err != nil {
				return err
			}
		}
		return nil
	})
}
