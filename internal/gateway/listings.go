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
	// maxListed is how many items an answer lists, about, unless the options say otherwise.
	maxListed = 5000
	// maxRemembered is how many items are kept of listings that were computed.
	maxRemembered = 30_000
	// maxEncoded is how many bytes of a listing are kept, encoded for readers at different places.
	maxEncoded = 1 << 20
	// itemCost is what a listing costs beside its items, in items.
	itemCost = 4
)

// listings are those that were computed lately, so that connected registries
// with the same subscription share them. The zero value is ready.
type listings struct {
	mu    sync.Mutex
	known map[listingKey]*listing
	items int // of all of them
}

// A listingKey is what a listing depends on, beside the state of its repository.
type listingKey struct{ subscription, repository string }

// A listing is what a subscription selects of a repository, at one sequence number.
type listing struct {
	repository string
	seq        int64 // of the repository
	items      []Item
	sum        subscription.Sum
	changed    int64 // the sequence number since which it has been the same, as far as is known

	mu      sync.Mutex
	encoded map[int64]json.RawMessage // as it is sent, by the reader's cursor
	bytes   int                       // of encoded
}

// complete is the cursor of a reader that needs the complete listing.
const complete = -1

// of returns the listing of a repository that the view is of.
func (c *listings) of(v *storage.View, e storage.FeedEntry, id string, f subscription.Filter) (*listing, error) {
	key := listingKey{id, e.Repository}
	c.mu.Lock()
	old := c.known[key]
	c.mu.Unlock()
	if old != nil && old.seq == e.Seq {
		return old, nil
	}
	items, err := List(v, e.Repository, f)
	if err != nil {
		return nil, err
	}
	l := &listing{
		repository: e.Repository, seq: e.Seq, items: items, changed: e.Seq, encoded: map[int64]json.RawMessage{},
	}
	for _, i := range items {
		l.sum.Add(i.Tag, string(i.Digest), i.Part)
	}
	if old != nil && old.seq >= e.PrevSeq && old.seq < l.seq && old.sum == l.sum && len(old.items) == len(items) {
		l.changed = old.changed
	}
	c.keep(key, l)
	return l, nil
}

func (c *listings) keep(key listingKey, l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.known[key]
	if old != nil && old.seq >= l.seq {
		return // another reader was faster
	}
	if old != nil {
		c.items -= itemCost + len(old.items)
	}
	if c.known == nil || c.items+itemCost+len(l.items) > maxRemembered {
		c.known, c.items = map[listingKey]*listing{}, 0
	}
	c.known[key] = l
	c.items += itemCost + len(l.items)
}

// since returns the listing as it is sent to a reader who has recorded it up to
// cursor, and how many items that has: short where that is much shorter. more is
// that it is the first page, of limit items, of a complete one.
func (l *listing) since(
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

// short is what of the listing changed after cursor.
func (l *listing) short(v *storage.View, cursor int64) (wire.Listing, error) {
	w := wire.Listing{Repository: l.repository, Seq: l.seq, Short: true, Count: len(l.items), Sum: l.sum.String()}
	for _, i := range l.items {
		if i.Seq > cursor {
			w.Items = append(w.Items, i.Item)
		}
	}
	removed, err := v.Removed(l.repository, cursor)
	for _, name := range removed {
		if _, back := l.find(name); !back {
			w.Gone = append(w.Gone, name)
		}
	}
	return w, err
}

// page is the complete listing, or limit items of it behind the item after.
func (l *listing) page(after string, limit int) wire.Listing {
	w := wire.Listing{Repository: l.repository, Seq: l.seq, After: after}
	at, found := l.find(after)
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

// find returns the place of an item.
func (l *listing) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.items, name, func(i Item, name string) int { return cmp.Compare(i.Name(), name) })
}
