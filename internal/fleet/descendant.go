package fleet

import (
	"context"
	"slices"
	"sort"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// DescendantSync returns what is known of the sync of the connected registry name.
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

// A descendant is what is known of a connected registry.
type descendant struct {
	*control.Registry
	state     *control.State
	report    lastReport
	watermark int64        // up to where in the feed here it said that it knows of everything
	changed   int64        // the number of the last change of what it, or one above it, gets
	way       []subscribed // itself, and those between it and this instance
	shared    *shared
}

// subscribed is what of the content here a connected registry gets.
type subscribed struct {
	permissions auth.Permissions
	filter      subscription.Filter
	filterID    string // the same for the same filter
}

// mayRead reports whether the site, and everybody on the way to it, gets anything
// of a repository.
func (v descendant) mayRead(repository string) bool {
	return !slices.ContainsFunc(v.way, func(r subscribed) bool {
		return !r.permissions.AllowsRepository(repository, auth.ContentRead)
	})
}

// site returns what is known of the connected registry name.
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
	common, err := newShared(c)
	if err != nil {
		return v, err
	}
	return s.descendantOf(state, r, common)
}

// descendantOf returns what is known of a connected registry below this instance.
func (s *Service) descendantOf(state *control.State, r *control.Registry, common *shared) (v descendant, err error) {
	v = descendant{Registry: r, state: state, report: s.reports.of(r.Name), shared: common}
	if w := v.report.Status.Watermarks[s.control.InstanceID()]; w <= common.head { // else it is of a database that was lost
		v.watermark = w
	}
	for _, r := range s.wayTo(state, r) {
		if err := v.follow(state, r); err != nil {
			return v, err
		}
	}
	return v, nil
}

// follow adds what a connected registry on the way to the site gets.
func (v *descendant) follow(state *control.State, r *control.Registry) (err error) {
	v.changed = max(v.changed, r.Settings.SubscriptionSeq)
	var s subscribed
	if t := state.Token(r.SyncToken); t != nil { // without it, it may have nothing
		v.changed = max(v.changed, t.Seq)
		s.permissions = t.Permissions.WithoutGateways()
		if m := state.ScopeMap(t.ScopeMap); m != nil {
			v.changed = max(v.changed, m.Seq)
		}
	}
	sub := gateway.SubscriptionOf(wireOf(r.ConnectedRegistry, r.Settings))
	sub.Permissions = nil
	s.filterID = sub.ID()
	s.filter, err = sub.Filter()
	v.way = append(v.way, s)
	return err
}

// A shared is what was read for one request, for all sites that it is about. It is
// of one view of the content here.
type shared struct {
	head     int64                      // of the feed
	listings map[listKey][]gateway.Item // which sites with the same filters share
	changes  []storage.FeedEntry        // the repositories that changed after since
	since    int64
}

type listKey struct{ repository, filter string }

func newShared(c *storage.View) (*shared, error) {
	head, _, err := c.FeedHead()
	return &shared{head: head, listings: map[listKey][]gateway.Item{}, since: head}, err
}

// maxListings is how many listings are kept.
const maxListings = 1000

// listing returns what of a repository somebody gets.
func (h *shared) listing(c *storage.View, repository string, r subscribed) ([]gateway.Item, error) {
	key := listKey{repository, r.filterID}
	if items, ok := h.listings[key]; ok {
		return items, nil
	}
	items, err := gateway.List(c, repository, r.filter)
	if err != nil {
		return nil, err
	}
	if len(h.listings) >= maxListings {
		clear(h.listings)
	}
	h.listings[key] = items
	return items, nil
}

// changedSince returns the repositories that changed after a sequence number, by the
// number of their last change. Each is read once, however many sites ask.
func (h *shared) changedSince(c *storage.View, after int64) ([]storage.FeedEntry, error) {
	var older []storage.FeedEntry
	for at := after; at < h.since; {
		entries, err := c.Feed(at, repositoriesPage)
		if err != nil {
			return nil, err
		}
		entries = entries[:behind(entries, h.since)]
		if older = append(older, entries...); len(entries) < repositoriesPage {
			break
		}
		at = entries[len(entries)-1].Seq
	}
	if after < h.since {
		h.changes, h.since = append(older, h.changes...), after
	}
	return h.changes[behind(h.changes, after):], nil
}

// behind returns the place of the first entry with a higher number than seq.
func behind(entries []storage.FeedEntry, seq int64) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].Seq > seq })
}
