package fleet

import (
	"context"
	"iter"
	"slices"
	"sort"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// DescendantSync returns the sync status of the descendant name, from its last report.
func (s *Service) DescendantSync(ctx context.Context, name string) (v api.DescendantSync, err error) {
	err = s.content.View(ctx, func(c *storage.View) error {
		d, err := s.descendant(c, name)
		if err != nil {
			return err
		}
		v = api.DescendantSync{
			Name:            d.Name,
			ConnectionState: connectionState(d.ConnectedRegistry, d.Settings, d.report, s.now()),
			Activation:      activationOf(d.ConnectedRegistry), HeardTime: api.Time(d.report.SeenAt),
			LastRefusedLogin: refusedOf(d.report.Status),
		}
		if v.Verdict, err = s.verdict(c, d); err != nil || v.HeardTime == nil {
			return err
		}
		age := int64(max(s.now().Sub(d.report.SeenAt), 0) / time.Second)
		v.AgeSeconds, v.Sync = &age, syncStatusOf(d.report.Status, v.Verdict)
		return nil
	})
	return v, err
}

// A descendant is a connected registry below this instance, with its last report and its selection.
type descendant struct {
	*control.Registry
	state     *control.State
	report    lastReport
	watermark int64 // of this instance's feed, by the last report
	cache     *requestCache
	*subscriptionPath
}

// descendant returns the descendant name.
func (s *Service) descendant(c *storage.View, name string) (v descendant, err error) {
	if s.control.IsSelf(name) {
		return v, control.Invalid("'%s' is this registry itself",
			s.control.Self()).WithHint("ask for its own sync: ferry sync status")
	}
	state := s.control.State()
	r := state.Registry(name)
	if r == nil {
		return v, control.MapNotFound(metadb.ErrNotFound, "connected registry", name)
	}
	cache, err := newRequestCache(c)
	if err != nil {
		return v, err
	}
	return s.descendantOf(state, r, cache)
}

// descendantOf returns the descendant for a row below this instance.
func (s *Service) descendantOf(
	state *control.State, r *control.Registry, cache *requestCache,
) (v descendant, err error) {
	p, err := newSubscriptionPath(state, s.pathTo(state, r))
	return s.descendantOn(p, state, r, cache), err
}

// descendantOn is [Service.descendantOf] with its subscription path.
func (s *Service) descendantOn(
	p *subscriptionPath, state *control.State, r *control.Registry, cache *requestCache,
) descendant {
	last := s.reports.of(r.Name)
	return descendant{Registry: r, state: state, report: last, cache: cache, subscriptionPath: p,
		watermark: s.watermarkOf(last.Status, cache.head)}
}

// watermarkOf returns the watermark of this instance's feed in a report. One above the head counts in
// a database that was lost, so it is not used.
func (s *Service) watermarkOf(st wire.Status, head int64) int64 {
	if w := st.Watermarks[s.control.InstanceID()]; w <= head {
		return w
	}
	return 0
}

// A requestCache holds data that one request has read, for all descendants in its answer. All of it
// is from one view of the content.
type requestCache struct {
	head     int64                          // of the feed, in this view
	listings map[listKey]*gateway.Selection // shared by descendants with the same filter
	changes  []storage.FeedEntry            // the repositories that changed after since
	since    int64
	entries  map[string]storage.FeedEntry // nil if the cache is used in several views
	// matching are these changes by the pattern of the repository, such as a/b, a/* or *; the last first.
	matching map[string][]storage.FeedEntry
	backlogs map[backlogKey]*backlog // nil if the cache is used in several views
	unheard  map[unheardKey]unheard  // nil if the cache is used in several views
}

type listKey struct{ repository, filter string }

func newRequestCache(c *storage.View) (*requestCache, error) {
	head, _, err := c.FeedHead()
	return &requestCache{head: head, listings: map[listKey]*gateway.Selection{}, since: head,
		matching: map[string][]storage.FeedEntry{}}, err
}

// maxListings is the number of listings, and of entries, that a requestCache keeps.
const maxListings = 1000

// listing returns what a selection gets of a repository.
func (q *requestCache) listing(c *storage.View, repository string, r selection) (*gateway.Selection, error) {
	key := listKey{repository, r.filterID}
	if known, ok := q.listings[key]; ok {
		return known, nil
	}
	selected, err := gateway.Select(c, repository, r.filter)
	if err != nil {
		return nil, err
	}
	if len(q.listings) >= maxListings {
		clear(q.listings)
	}
	q.listings[key] = selected
	return selected, nil
}

// entry returns a repository's entry in the feed.
func (q *requestCache) entry(c *storage.View, repository string) (storage.FeedEntry, error) {
	if entry, ok := q.entries[repository]; ok {
		return entry, nil
	}
	entry, err := c.FeedEntry(repository)
	if err != nil || q.entries == nil {
		return entry, err
	}
	if len(q.entries) >= maxListings {
		clear(q.entries)
	}
	q.entries[repository] = entry
	return entry, nil
}

// changedSince returns the repositories that changed after a sequence number, ordered by the number
// of their last change. It reads each entry once, for all descendants.
func (q *requestCache) changedSince(c *storage.View, after int64) ([]storage.FeedEntry, error) {
	var older []storage.FeedEntry
	for at := after; at < q.since; {
		entries, err := c.Feed(at, repositoriesPage)
		if err != nil {
			return nil, err
		}
		entries = entries[:firstAfter(entries, q.since)]
		if older = append(older, entries...); len(entries) < repositoriesPage {
			break
		}
		at = entries[len(entries)-1].Seq
	}
	if after < q.since {
		q.changes, q.since = append(older, q.changes...), after
		for _, entry := range slices.Backward(older) {
			for pattern := range patternsOf(entry.Repository) {
				q.matching[pattern] = append(q.matching[pattern], entry)
			}
		}
	}
	return q.changes[firstAfter(q.changes, after):], nil
}

// patternsOf returns the patterns of permissions that cover a repository.
func patternsOf(repository string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield("*") || !yield(repository) {
			return
		}
		for i, r := range repository {
			if r == '/' && !yield(repository[:i]+"/*") {
				return
			}
		}
	}
}

// firstAfter returns the index of the first entry with a higher number than seq.
func firstAfter(entries []storage.FeedEntry, seq int64) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].Seq > seq })
}
