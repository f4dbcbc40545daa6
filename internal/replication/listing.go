package replication

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/subscription"
)

// A Listing is what a source has in one repository for this registry, or what
// of that changed.
type Listing struct {
	Repository string
	Seq        int64        // of the repository's last change; a listing without pages may have none
	Items      []ListedItem // by name

	// A listing that is not Short is complete, or a page of a complete one: it
	// has every item whose name is above After and, where More follows, not
	// above that of its last item.
	After string
	More  bool

	// A Short listing has the items that were set since the last one, and the
	// names of those that are Gone. Where Sum is not "", it is the
	// [subscription.Sum] of all Count items that this registry must have in the repository then.
	Short bool
	Gone  []string
	Count int
	Sum   string
}

// A ListedItem is a tag, or a manifest that this registry must have although no
// tag leads to it.
type ListedItem struct {
	Tag    string // "" of a manifest without one
	Digest digest.Digest
	Part   string // of an index of which the source has only a part: what tells that part from others
}

// Name is the tag or, without one, the digest.
func (i ListedItem) Name() string { return cmp.Or(i.Tag, string(i.Digest)) }

// placeSetting is the name under which the engine's place is kept among the
// settings; see [Engine.own].
const placeSetting = "sync-place"

// A Place is how far this registry has recorded what its source has.
type Position struct {
	Feed         string `json:"feed,omitempty"`         // which feed of the source Cursor counts in; "" is none
	Subscription string `json:"subscription,omitempty"` // which subscription the listings were for
	Cursor       int64  `json:"cursor,omitempty"`       // the sequence number up to which repositories are recorded
	Since        int64  `json:"since,omitempty"`        // the Cursor at which the source last had no more to tell
	// AsOf is when the source last had no more to tell: what was in sync then is
	// known to have matched then.
	AsOf time.Time `json:"asOf,omitzero"`
	Pass int64     `json:"pass,omitempty"` // the feed's head when the pass over all repositories began; 0 is none

	// Watermarks are what the source had everything of when it last answered: a
	// sequence number for each of its own sources' feeds.
	Watermarks map[string]int64 `json:"watermarks,omitempty"`
	// Lacking are items that the watermarks cover and that the source did not have
	// all the same.
	Lacking []MissingItem `json:"lacking,omitempty"`

	Page *Page `json:"page,omitempty"` // the rest of the listing that is being read
	// Relist are repositories whose items do not add up to what the source has:
	// their complete listing must be asked for.
	Relist []string `json:"relist,omitempty"`
}

// A LackedItem is an item that cannot come, because the source lacks it itself.
type MissingItem struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"` // "" of a manifest without one
	Digest     digest.Digest `json:"digest"`        // of what the source should have
	Error      string        `json:"error"`         // why it does not
}

// A Page is a place in a complete listing.
type Page struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq"`
	After      string `json:"after"`
}

// Current reports whether everything that the source had when it last answered
// is recorded.
func (p Position) Current() bool {
	return p.Feed != "" && p.Pass == 0 && p.Since == p.Cursor && p.Page == nil && len(p.Relist) == 0
}

// Known returns, for each feed, the sequence number up to which everything is
// recorded; nil where that is not known.
func (p Position) Known() map[string]int64 {
	if !p.Current() {
		return nil
	}
	known := maps.Clone(p.Watermarks)
	if known == nil {
		known = map[string]int64{}
	}
	known[p.Feed] = p.Cursor
	return known
}

// NextPage is the complete listing, or the rest of one, to ask for first; nil
// is none.
func (p Position) NextPage() *Page {
	if p.Page == nil && len(p.Relist) > 0 {
		return &Page{Repository: p.Relist[0]}
	}
	return p.Page
}

// Place returns the engine's place; zero is none.
func (e *Engine) Position(ctx context.Context) (Position, error) {
	return metadb.Read(ctx, e.db, e.place)
}

func (e *Engine) place(tx *metadb.Tx) (p Position, err error) {
	text, err := tx.Setting(e.own(placeSetting))
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &p)
	}
	return p, err
}

func (e *Engine) setPlace(tx *metadb.Tx, p Position) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tx.SetSetting(e.own(placeSetting), string(text))
}

// An Answer is what a source answers to the question what changed since a
// [Place].
type Answer struct {
	Feed, Subscription string
	Cursor             int64 // of the next place
	Restart            bool  // the place was of no use: a pass over all repositories begins with this answer
	Head               int64 // with Restart: the feed's head, at least 1
	More               bool  // the answer does not have all there is
	Listings           []Listing
	Watermarks         map[string]int64 // see [Place]
	Lacking            []MissingItem    // likewise
}

// ApplyAnswer records what a source answered, and the place that follows, in
// one transaction. Nothing is fetched yet, unless a Sync runs that has nothing
// better to do. What a pass over all repositories did not list is removed by the
// Sync that follows its end. changed reports whether there is anything to do.
func (e *Engine) ApplyAnswer(ctx context.Context, a Answer) (changed bool, err error) {
	var touched []string
	err = e.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		touched = nil
		p, err := e.place(tx)
		if err != nil {
			return err
		}
		if a.Restart {
			p = Position{Pass: a.Head, AsOf: p.AsOf}
			if err := tx.ClearPass(e.name); err != nil {
				return err
			}
		}
		p.Feed, p.Subscription, p.Cursor = a.Feed, a.Subscription, a.Cursor
		p.Watermarks, p.Lacking = a.Watermarks, a.Lacking
		for _, l := range a.Listings {
			changed, err := e.applyPaged(tx, &p, l)
			if err != nil {
				return err
			}
			if changed {
				touched = append(touched, l.Repository)
			}
		}
		if a.More {
			return e.setPlace(tx, p)
		}
		p.Since, p.AsOf = p.Cursor, e.now()
		if p.Pass > 0 {
			p.Pass = 0
			dropped, err := e.endPass(tx)
			if err != nil {
				return err
			}
			touched = append(touched, dropped...)
		}
		return e.setPlace(tx, p)
	})
	if err == nil {
		e.noteChanged(touched)
	}
	return len(touched) > 0, err
}

// applyPaged records a listing, and what of its repository is still to be asked for.
func (e *Engine) applyPaged(tx *metadb.Tx, p *Position, l Listing) (changed bool, err error) {
	if p.Pass > 0 {
		if err := tx.NotePassed(e.name, l.Repository); err != nil {
			return false, err
		}
	}
	changed, whole, err := e.applyListing(tx, l, p.AsOf)
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
	case !whole:
		e.log.Warn("listing does not add up, and is asked for whole", "repo", l.Repository)
		p.Relist = append(p.Relist, l.Repository)
	}
	return changed, nil
}

// endPass marks what the pass did not list for removal.
func (e *Engine) endPass(tx *metadb.Tx) (dropped []string, err error) {
	if dropped, err = tx.NotPassed(e.name); err != nil {
		return nil, err
	}
	for _, repository := range dropped {
		if err := tx.DropSyncItems(e.name, repository, e.now()); err != nil {
			return nil, err
		}
	}
	return dropped, tx.ClearPass(e.name)
}

// ApplyListing records what a source has in one repository. Nothing is fetched
// yet, unless a Sync runs that has nothing better to do.
func (e *Engine) ApplyListing(ctx context.Context, l Listing) error {
	var changed bool
	err := e.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		changed, _, err = e.applyListing(tx, l, time.Time{})
		return err
	})
	if err == nil && changed {
		e.noteChanged([]string{l.Repository})
	}
	return err
}

// applyListing records a listing. What was in sync and has moved is known to have
// matched at asOf; zero is not known. whole reports whether the items then add up
// to what the source has.
func (e *Engine) applyListing(tx *metadb.Tx, l Listing, asOf time.Time) (changed, whole bool, err error) {
	known, err := e.listed(tx, l)
	if err != nil {
		return false, false, err
	}
	for _, item := range l.Items {
		old, ok := known[item.Name()]
		delete(known, item.Name()) // what is left at last is gone
		if ok && old.Digest == string(item.Digest) && old.Part == item.Part {
			continue
		}
		changed = true
		if err := tx.PutSyncItem(e.moved(l.Repository, item, old, asOf)); err != nil {
			return false, false, err
		}
	}
	for _, row := range known {
		if row.Digest == "" {
			continue
		}
		changed = true
		if err := tx.PutSyncItem(e.moved(l.Repository, ListedItem{Tag: row.Tag}, row, asOf)); err != nil {
			return false, false, err
		}
	}
	if !l.Short || l.Sum == "" {
		return changed, true, nil
	}
	whole, err = e.addsUp(tx, l)
	return changed, whole, err
}

// listed returns the items that a listing may change, by name.
func (e *Engine) listed(tx *metadb.Tx, l Listing) (map[string]metadb.SyncItem, error) {
	known := map[string]metadb.SyncItem{}
	if l.Short {
		names := l.Gone[:len(l.Gone):len(l.Gone)]
		for _, item := range l.Items {
			names = append(names, item.Name())
		}
		for _, name := range names {
			row, err := tx.SyncItem(e.name, l.Repository, name)
			if err == nil {
				known[name] = row
			} else if !errors.Is(err, metadb.ErrNotFound) {
				return nil, err
			}
		}
		return known, nil
	}
	last := ""
	if n := len(l.Items); l.More && n > 0 {
		last = l.Items[n-1].Name()
	}
	rows, err := tx.ListedSyncItems(e.name, l.Repository, l.After, last)
	for _, row := range rows {
		known[row.Item] = row
	}
	return known, err
}

// moved returns the row of an item that is other at the source than old says;
// an item without a digest must be removed.
func (e *Engine) moved(repository string, item ListedItem, old metadb.SyncItem, asOf time.Time) metadb.SyncItem {
	if old.State == Synced && asOf.After(old.SyncedAt) {
		old.SyncedAt = asOf
	}
	now := e.now()
	if !now.After(old.ChangedAt) { // a Sync that looked at the old row must not take this one for it
		now = old.ChangedAt.Add(time.Millisecond)
	}
	return metadb.SyncItem{
		Source: e.name, Repository: repository, Item: cmp.Or(old.Item, item.Name()), Tag: item.Tag,
		Digest: string(item.Digest), Part: item.Part, State: Pending, ChangedAt: now, SyncedAt: old.SyncedAt,
	}
}

// addsUp reports whether the items of a listing's repository are those that the
// source has.
func (e *Engine) addsUp(tx *metadb.Tx, l Listing) (bool, error) {
	rows, err := tx.ListedSyncItems(e.name, l.Repository, "", "")
	if err != nil {
		return false, err
	}
	var sum subscription.Sum
	count := 0
	for _, row := range rows {
		if row.Digest != "" {
			sum.Add(row.Tag, row.Digest, row.Part)
			count++
		}
	}
	return count == l.Count && sum.String() == l.Sum, nil
}

// noteChanged makes the Sync that runs look at what changed in repositories.
func (e *Engine) noteChanged(repositories []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil && e.follows && slices.ContainsFunc(repositories, e.current.concerns) {
		e.current.readAgain()
	}
}

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

// Items returns up to limit items of kind after (repository, item), in order:
// item is the tag, or the digest of an item without one.
func (e *Engine) Items(
	ctx context.Context, kind metadb.SyncItemKind, repository, item string, limit int,
) ([]metadb.SyncItem, error) {
	return metadb.Read(ctx, e.db, func(tx *metadb.Tx) ([]metadb.SyncItem, error) {
		return tx.SyncItems(e.name, kind, repository, item, limit)
	})
}

// repositories returns the repositories with items of kind, and how many each has.
func (e *Engine) repositories(ctx context.Context, kind metadb.SyncItemKind) (map[string]int, error) {
	return metadb.Read(ctx, e.db,
		func(tx *metadb.Tx) (map[string]int, error) { return tx.SyncRepositories(e.name, kind) })
}

// Counts returns how many items are in each state.
func (e *Engine) Counts(ctx context.Context) (synced, pending, failed int, err error) {
	n, err := metadb.Read(ctx, e.db, func(tx *metadb.Tx) (map[string]int, error) { return tx.CountSyncItems(e.name) })
	return n[Synced], n[Pending], n[Failed], err
}

// own makes a name the source's own.
func own(source, name string) string {
	if source == metadb.Parent {
		return name
	}
	return name + "/" + source
}

func (e *Engine) own(name string) string { return own(e.name, name) }
