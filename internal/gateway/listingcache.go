package gateway

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"

	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// Limits on listings.
const (
	// maxListed is about how many items an answer lists, unless the options say otherwise.
	maxListed = 5000
	// maxCached is how many items all cached listings have together.
	maxCached = 30_000
	// maxEncoded is how many bytes of one listing are cached, encoded for different cursors.
	maxEncoded = 1 << 20
	// itemCost is the cost of a listing without items, as a number of items.
	itemCost = 4
)

// A listingCache has the listings that were computed last, so that connected
// registries with the same subscription share them. The zero value is ready.
type listingCache struct {
	mu     sync.Mutex
	cached map[listingKey]*listing
	items  int // of all of them
}

// A listingKey names a listing.
type listingKey struct{ subscription, repository string }

// A listing is the items that a subscription selects of a repository, at one
// sequence number. A cached listing is current if it has the repository's sequence number.
type listing struct {
	repository string
	seq        int64 // of the repository
	items      []Item
	locks      storage.Locks // of the repository
	sum        subscription.Checksum
	lockSum    subscription.Checksum
	changed    int64 // the sequence number of the last change to it, or a higher one

	mu      sync.Mutex
	encoded map[int64]json.RawMessage // in the form of the wire, by the reader's cursor
	bytes   int                       // of encoded
}

// complete is the cursor of a reader that needs the complete listing.
const complete = -1

// get returns the listing of a repository in a view.
func (c *listingCache) get(v *storage.View, e storage.FeedEntry, id string, f subscription.Filter) (*listing, error) {
	key := listingKey{id, e.Repository}
	c.mu.Lock()
	old := c.cached[key]
	c.mu.Unlock()
	if old != nil && old.seq == e.Seq {
		return old, nil
	}
	items, err := SelectItems(v, e.Repository, f)
	if err != nil {
		return nil, err
	}
	locks, err := v.RepositoryLocks(e.Repository)
	if err != nil {
		return nil, err
	}
	l := &listing{
		repository: e.Repository, seq: e.Seq, items: items, locks: locks, changed: e.Seq,
		encoded: map[int64]json.RawMessage{},
	}
	l.lockSum.AddLocks("", int(locks))
	for _, i := range items {
		l.sum.Add(i.Tag, string(i.Digest), i.Part)
		l.lockSum.AddLocks(i.Name(), i.Locks)
	}
	if old != nil && old.seq >= e.PrevSeq && old.seq < l.seq && old.equals(l) {
		l.changed = old.changed
	}
	c.put(key, l)
	return l, nil
}

// equals reports whether two listings of a repository have the same items and locks.
func (l *listing) equals(o *listing) bool {
	return l.sum == o.sum && l.lockSum == o.lockSum && len(l.items) == len(o.items)
}

func (c *listingCache) put(key listingKey, l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.cached[key]
	if old != nil && old.seq >= l.seq {
		return // another reader was faster
	}
	if old != nil {
		c.items -= itemCost + len(old.items)
	}
	if c.cached == nil || c.items+itemCost+len(l.items) > maxCached {
		c.cached, c.items = map[listingKey]*listing{}, 0
	}
	c.cached[key] = l
	c.items += itemCost + len(l.items)
}

// encode returns the listing in the form of the wire for a reader that has
// recorded it up to cursor, and how many items it has. It is a short listing if
// that is much shorter. If more is true, it is the first page of a complete
// listing, with limit items.
func (l *listing) encode(
	v *storage.View, cursor int64, limit int,
) (text json.RawMessage, items int, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := l.encoded[cursor]; text != nil {
		return text, len(l.items), false, nil
	}
	w := l.page("", limit)
	if cursor != complete {
		short, err := l.short(v, cursor)
		if err != nil {
			return nil, 0, false, err
		}
		if 2*(len(short.Items)+len(short.Gone)) < len(l.items) {
			w = short
		}
	}
	if text, err = json.Marshal(w); err != nil || w.More {
		return text, len(w.Items), w.More, err
	}
	if len(l.encoded) >= 8 || l.bytes+len(text) > maxEncoded {
		clear(l.encoded)
		l.bytes = 0
	}
	l.encoded[cursor] = text
	l.bytes += len(text)
	return text, len(w.Items) + len(w.Gone), false, nil
}

// short returns the short listing: the changes after cursor.
func (l *listing) short(v *storage.View, cursor int64) (wire.Listing, error) {
	w := wire.Listing{
		Repository: l.repository, Seq: l.seq, Short: true, Count: len(l.items), Sum: l.sum.String(),
		Locks: int(l.locks), LockSum: l.lockSum.String(),
	}
	for _, i := range l.items {
		if i.Seq > cursor {
			w.Items = append(w.Items, i.Item)
		}
	}
	removed, err := v.Removed(l.repository, cursor)
	for _, r := range removed {
		if _, back := l.find(r.Item); !back {
			w.Gone = append(w.Gone, r.Item)
		}
	}
	return w, err
}

// page returns at most limit items of the complete listing that follow the item named last.
func (l *listing) page(last string, limit int) wire.Listing {
	w := wire.Listing{Repository: l.repository, Seq: l.seq, After: last, Locks: int(l.locks)}
	at, found := l.find(last)
	if found {
		at++
	}
	rest := l.items[at:]
	if w.More = len(rest) > limit; w.More {
		rest = rest[:limit]
	}
	for _, i := range rest {
		w.Items = append(w.Items, i.Item)
	}
	return w
}

// find returns the index of an item.
func (l *listing) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.items, name, func(i Item, name string) int { return cmp.Compare(i.Name(), name) })
}
