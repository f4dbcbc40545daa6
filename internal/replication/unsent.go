package replication

import (
	"errors"
	"slices"

	"ferry/internal/metadb"
)

// Clients of a connected registry in mode ReadWrite change items, too. Such an item is held: its row
// follows the parent's listings, and nothing is fetched or removed for it until the parent has
// answered to the change. A listing that the parent made before its answer says nothing about the
// item; the sequence numbers of both tell which was first.

// answeredAfter returns the items of a listing's repository whose changes the parent answered after
// it made the listing. It also forgets the answers that the listing includes.
func (e *Engine) answeredAfter(tx *metadb.Tx, l Listing) (map[string]bool, error) {
	if e.name != metadb.Parent {
		return nil, nil
	}
	rows, err := tx.AnsweredAfter(l.Repository, l.Seq)
	if err != nil {
		return nil, err
	}
	items := map[string]bool{}
	for _, row := range rows {
		items[row.Item] = true
	}
	return items, tx.ForgetAnswered(l.Repository, l.Seq)
}

// acceptedItem returns the row of a listed item. If a client made the same change here, the item is not
// held any more: the parent has the change, although its answer may have got lost.
func (e *Engine) acceptedItem(tx *metadb.Tx, row metadb.SyncItem) (metadb.SyncItem, error) {
	if row.State != metadb.Held {
		return row, nil
	}
	change, err := tx.OutboxItem(row.Repository, row.Item)
	if errors.Is(err, metadb.ErrNotFound) {
		return row, nil
	}
	if err != nil || change.State == metadb.Sent {
		return row, err
	}
	if change.Digest == row.Digest {
		row.State = Pending // of an index, the source may have a part
		if row.Part == "" {
			row.State, row.SyncedAt = Synced, e.now()
		}
		return row, tx.DeleteOutboxItem(row.Repository, row.Item)
	}
	if slices.Contains(change.Attempted, row.Digest) { // an earlier change of this registry
		change.Base = row.Digest
		err = tx.PutOutboxItem(change)
	}
	return row, err
}

// restartPass prepares a pass over all repositories. A parent with another feed, or one whose feed is
// shorter than it was, may have lost what it accepted from this registry: that is sent again.
func (e *Engine) restartPass(tx *metadb.Tx, p Position, a Answer) error {
	if err := tx.ClearPass(e.name); err != nil || e.name != metadb.Parent {
		return err
	}
	if a.Feed == p.Feed {
		return tx.ResendAnswered(a.Head)
	}
	return tx.ResendAnswered(0)
}

// relistAnswered requests the complete listing of each repository that has an accepted change which
// no listing has shown, although everything is recorded: the parent's listing for this registry did
// not change with it.
func (e *Engine) relistAnswered(tx *metadb.Tx, p *Position) error {
	if e.name != metadb.Parent {
		return nil
	}
	repositories, err := tx.TakeAnswered(p.Cursor)
	for _, repository := range repositories {
		if !slices.Contains(p.Relist, repository) {
			p.Relist = append(p.Relist, repository)
		}
	}
	return err
}

// tagLeft ends the conflicts that the removal of a tag at the parent ends.
func (e *Engine) tagLeft(tx *metadb.Tx, row metadb.SyncItem) error {
	if e.name != metadb.Parent || row.Tag == "" {
		return nil
	}
	return tx.TagLeft(row.Repository, row.Tag)
}
