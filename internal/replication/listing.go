package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// A Listing lists the items of one repository that this registry must have, or the changes
// since an earlier listing.
type Listing struct {
	Repository string
	Seq        int64        // of the repository's last change; 0 if the listing has only one page
	Items      []ListedItem // by name

	// A listing that is not Short is complete, or one page of a complete one. A page has
	// all items after the name After and, if More is true, up to that of its last item.
	After string
	More  bool

	// A Short listing has the items that were set since the last listing, and the names
	// of items that are Gone. If Sum is not "", the repository must then have Count
	// items with the [subscription.Checksum] Sum.
	Short bool
	Gone  []string
	Count int
	Sum   string

	Locks   storage.Locks // of the repository
	LockSum string        // of a short listing: the checksum of all locks; "" is unknown
}

// A ListedItem is a tag, or a manifest that this registry must have without a tag, or that is locked.
type ListedItem struct {
	Tag    string // "" for a manifest without a tag
	Digest digest.Digest
	Part   string // identifies the part that the source has of an index; "" if it has all
	Locks  storage.Locks
}

// Name is the tag or, without a tag, the digest.
func (i ListedItem) Name() string { return cmp.Or(i.Tag, string(i.Digest)) }

// An Answer is a source's answer to a poll from a [Position].
type Answer struct {
	Feed, Subscription string
	Cursor             int64 // of the next position
	Restart            bool  // the position is invalid: this answer begins a pass over all repositories
	Head               int64 // if Restart: the feed's head, at least 1
	More               bool  // further answers follow
	Listings           []Listing
	Watermarks         map[string]int64 // see [Position]
	Lacking            []MissingItem    // see [Position]
	Locks              bool             // the listings have locks
}

// ApplyAnswer records a source's answer and the next position in one transaction. It
// fetches nothing, but a running Sync fetches the changed items if they are urgent enough.
// Repositories that a complete pass did not list are removed by the next Sync. changed
// reports whether there is anything to sync.
func (e *Engine) ApplyAnswer(ctx context.Context, a Answer) (changed bool, err error) {
	var repositories []string // that changed
	err = e.storage.RecordFromParent(ctx, func(tx *metadb.Tx, locks *storage.ParentLocks) error {
		repositories = nil
		p, err := e.loadPosition(tx)
		if err != nil {
			return err
		}
		if a.Restart {
			if err := e.restartPass(tx, p, a); err != nil {
				return err
			}
			p = Position{Pass: a.Head, AsOf: p.AsOf}
		}
		p.Feed, p.Subscription, p.Cursor = a.Feed, a.Subscription, a.Cursor
		p.Watermarks, p.Lacking, p.Locks = a.Watermarks, a.Lacking, a.Locks
		for _, l := range a.Listings {
			changed, err := e.applyPage(tx, locks, &p, l)
			if err != nil {
				return err
			}
			if changed {
				repositories = append(repositories, l.Repository)
			}
		}
		if a.More {
			return e.savePosition(tx, p)
		}
		p.Since, p.AsOf = p.Cursor, e.now()
		if p.Pass > 0 {
			p.Pass = 0
			dropped, err := e.endPass(tx, locks, p.Cursor)
			if err != nil {
				return err
			}
			repositories = append(repositories, dropped...)
		}
		if err := e.relistAnswered(tx, &p); err != nil {
			return err
		}
		return e.savePosition(tx, p)
	})
	if err == nil {
		e.notifyRun(repositories)
	}
	return len(repositories) > 0, err
}

// applyPage records a listing, and in p which page of its repository must be requested
// next.
func (e *Engine) applyPage(
	tx *metadb.Tx, locks *storage.ParentLocks, p *Position, l Listing,
) (changed bool, err error) {
	if p.Pass > 0 {
		if err := tx.MarkListed(e.name, l.Repository); err != nil {
			return false, err
		}
	}
	changed, matches, err := e.applyListing(tx, locks, l, p.AsOf)
	if err == nil && !changed {
		// If the source lists the repository, content that it lacked may be in service again.
		changed, err = tx.HasSyncItems(e.name, metadb.OutOfSyncItem, l.Repository)
	}
	if err != nil {
		return false, err
	}
	p.Relist = slices.DeleteFunc(p.Relist, func(name string) bool { return name == l.Repository })
	if p.Page != nil && p.Page.Repository == l.Repository {
		p.Page = nil
	}
	switch {
	case l.More && len(l.Items) > 0:
		p.Page = &Page{Repository: l.Repository, Seq: l.Seq, After: l.Items[len(l.Items)-1].Name()}
	case !matches:
		e.log.Warn("listing does not match its sum; the complete listing is requested", "repo", l.Repository)
		p.Relist = append(p.Relist, l.Repository)
	}
	return changed, nil
}

// endPass marks the items of repositories that the pass did not list for removal, and
// returns those repositories.
func (e *Engine) endPass(
	tx *metadb.Tx, locks *storage.ParentLocks, cursor int64,
) (dropped []string, err error) {
	if dropped, err = tx.UnlistedRepositories(e.name); err != nil {
		return nil, err
	}
	for _, repository := range dropped {
		if err := tx.MarkForRemoval(e.name, repository, cursor, e.now()); err != nil {
			return nil, err
		}
		if err := locks.ForgetRepository(repository); err != nil {
			return nil, err
		}
	}
	return dropped, tx.ClearPass(e.name)
}

// ApplyListing records a listing from a source without a feed. It fetches nothing, but a
// running Sync fetches the changed items if they are urgent enough.
func (e *Engine) ApplyListing(ctx context.Context, l Listing) error {
	var changed bool
	err := e.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		changed, _, err = e.applyListing(tx, nil, l, time.Time{})
		return err
	})
	if err == nil && changed {
		e.notifyRun([]string{l.Repository})
	}
	return err
}

// applyListing records a listing, and its locks unless locks is nil. Changed items that were in sync
// are known to have matched the source at asOf; zero is unknown. matches reports whether the
// recorded items then match the listing's sums.
func (e *Engine) applyListing(
	tx *metadb.Tx, locks *storage.ParentLocks, l Listing, asOf time.Time,
) (changed, matches bool, err error) {
	recorded, err := e.affectedItems(tx, l)
	if err != nil {
		return false, false, err
	}
	newer, err := e.answeredAfter(tx, l)
	if err != nil {
		return false, false, err
	}
	for name := range newer {
		delete(recorded, name)
	}
	for _, item := range l.Items {
		if newer[item.Name()] {
			continue
		}
		old, ok := recorded[item.Name()]
		delete(recorded, item.Name()) // the items that remain at the end are gone
		if ok && old.Digest == string(item.Digest) && old.Part == item.Part {
			continue
		}
		row := e.changedItem(l.Repository, item, old, asOf)
		if !ok && item.Tag == "" && item.Locks != 0 {
			if row, err = e.lockedItem(tx, row); err != nil {
				return false, false, err
			}
		}
		changed = changed || row.State != Synced
		if row, err = e.acceptedItem(tx, row); err != nil {
			return false, false, err
		}
		if err := tx.PutSyncItem(row); err != nil {
			return false, false, err
		}
	}
	var gone []string
	for _, row := range recorded {
		if row.Digest == "" {
			continue
		}
		changed = true
		gone = append(gone, row.Item)
		now, err := e.acceptedItem(tx, e.changedItem(l.Repository, ListedItem{Tag: row.Tag}, row, asOf))
		if err != nil {
			return false, false, err
		}
		if err := tx.PutSyncItem(now); err != nil {
			return false, false, err
		}
		if err := e.tagLeft(tx, row); err != nil {
			return false, false, err
		}
	}
	if len(newer) > 0 { // the sum is of what the parent had before
		return changed, true, nil
	}
	if locks != nil {
		if err := applyLocks(tx, locks, l, gone); err != nil {
			return false, false, err
		}
	}
	if !l.Short || l.Sum == "" {
		return changed, true, nil
	}
	matches, err = e.sumMatches(tx, l)
	return changed, matches, err
}

// affectedItems returns the recorded items that a listing may change, by name.
func (e *Engine) affectedItems(tx *metadb.Tx, l Listing) (map[string]metadb.SyncItem, error) {
	recorded := map[string]metadb.SyncItem{}
	if l.Short {
		names := l.Gone[:len(l.Gone):len(l.Gone)]
		for _, item := range l.Items {
			names = append(names, item.Name())
		}
		for _, name := range names {
			row, err := tx.SyncItem(e.name, l.Repository, name)
			if err == nil {
				recorded[name] = row
			} else if !errors.Is(err, metadb.ErrNotFound) {
				return nil, err
			}
		}
		return recorded, nil
	}
	last := ""
	if n := len(l.Items); l.More && n > 0 {
		last = l.Items[n-1].Name()
	}
	rows, err := tx.SyncItemsInRange(e.name, l.Repository, l.After, last)
	for _, row := range rows {
		recorded[row.Item] = row
	}
	return recorded, err
}

// changedItem returns the row of an item that differs from old, its recorded row. An item
// without a digest must be removed.
func (e *Engine) changedItem(repository string, item ListedItem, old metadb.SyncItem, asOf time.Time) metadb.SyncItem {
	if old.State == Synced && asOf.After(old.SyncedAt) {
		old.SyncedAt = asOf
	}
	now := e.now()
	if !now.After(old.ChangedAt) { // a Sync tells the rows apart by ChangedAt
		now = old.ChangedAt.Add(time.Millisecond)
	}
	row := metadb.SyncItem{
		Source: e.name, Repository: repository, Item: cmp.Or(old.Item, item.Name()), Tag: item.Tag,
		Digest: string(item.Digest), Part: item.Part, State: Pending, ChangedAt: now, SyncedAt: old.SyncedAt,
	}
	if old.State == metadb.Held {
		row.State = metadb.Held
	}
	return row
}

// sumMatches reports whether the recorded items of a repository match a listing's sum.
func (e *Engine) sumMatches(tx *metadb.Tx, l Listing) (bool, error) {
	rows, err := tx.SyncItemsInRange(e.name, l.Repository, "", "")
	if err != nil {
		return false, err
	}
	var sum subscription.Checksum
	count := 0
	for _, row := range rows {
		if row.Digest != "" {
			sum.Add(row.Tag, row.Digest, row.Part)
			count++
		}
	}
	if count != l.Count || sum.String() != l.Sum || l.LockSum == "" {
		return count == l.Count && sum.String() == l.Sum, nil
	}
	return locksMatch(tx, l)
}

// notifyRun makes the running Sync read the pending items again if a change in one of the
// repositories is urgent enough.
func (e *Engine) notifyRun(repositories []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil && e.followsChanges && slices.ContainsFunc(repositories, e.current.isAffectedBy) {
		e.current.restartReading()
	}
}

// ForgetSource deletes the recorded items of a source, its leases and its position. The
// content stays. A Sync with the source that runs may record some items again.
func ForgetSource(tx *metadb.Tx, source string) error {
	if err := tx.ForgetSource(source); err != nil {
		return err
	}
	if err := tx.Release(sourceKey(source, leaseHolder)); err != nil {
		return err
	}
	return tx.DeleteSettings(sourceKey(source, positionSetting))
}

// Items returns up to limit items of kind after (repository, item), in that order. item is
// the tag or, without a tag, the digest.
func (e *Engine) Items(
	ctx context.Context, kind metadb.SyncItemKind, repository, item string, limit int,
) ([]metadb.SyncItem, error) {
	return metadb.Read(ctx, e.db, func(tx *metadb.Tx) ([]metadb.SyncItem, error) {
		return tx.SyncItems(e.name, kind, repository, item, limit)
	})
}

// repositories returns how many items of kind each repository has.
func (e *Engine) repositories(ctx context.Context, kind metadb.SyncItemKind) (map[string]int, error) {
	return metadb.Read(ctx, e.db, func(tx *metadb.Tx) (map[string]int, error) {
		return tx.SyncRepositories(e.name, kind)
	})
}

// Counts returns how many items are in each state.
func (e *Engine) Counts(ctx context.Context) (synced, pending, failed int, err error) {
	n, err := metadb.Read(ctx, e.db, func(tx *metadb.Tx) (map[string]int, error) { return tx.CountSyncItems(e.name) })
	return n[Synced], n[Pending], n[Failed], err
}

// sourceKey returns the name of a setting or a lease holder that belongs to a source.
func sourceKey(source, name string) string {
	if source == metadb.Parent {
		return name
	}
	return name + "/" + source
}

func (e *Engine) sourceKey(name string) string { return sourceKey(e.name, name) }
