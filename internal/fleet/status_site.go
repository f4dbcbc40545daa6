package fleet

import (
	"context"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// SiteSync returns what is known of the sync of the connected registry name.
func (s *Service) SiteSync(ctx context.Context, name string) (v api.SiteSync, err error) {
	err = s.content.View(ctx, func(c *storage.View) error {
		site, err := s.site(c, name)
		if err != nil {
			return err
		}
		v = api.SiteSync{
			Name: site.Name, ConnectionState: connectionState(site.ConnectedRegistry, site.Settings, site.report, s.now()),
			Activation: activationOf(site.ConnectedRegistry), HeardTime: api.Time(site.report.SeenAt),
			LastRefusedLogin: refusedOf(site.report.Status),
		}
		if v.Verdict, err = s.verdict(c, site); err != nil || v.HeardTime == nil {
			return err
		}
		age := int64(max(s.now().Sub(site.report.SeenAt), 0) / time.Second)
		v.AgeSeconds, v.Sync = &age, syncStatusOf(site.report.Status, v.Verdict)
		return nil
	})
	return v, err
}

// A site is what is known of a connected registry.
type site struct {
	*control.Registry
	state     *control.State
	report    lastReport
	head      int64        // of the feed here
	watermark int64        // up to where in the feed here it said that it knows of everything
	changed   int64        // the number of the last change of what it, or one above it, gets
	way       []subscribed // itself, and those between it and this instance
	lists     listCache
}

// subscribed is what of the content here a connected registry gets.
type subscribed struct {
	permissions auth.Permissions
	filter      subscription.Filter
	filterID    string // the same for the same filter
}

// mayRead reports whether the site, and everybody on the way to it, gets anything
// of a repository.
func (v site) mayRead(repository string) bool {
	return !slices.ContainsFunc(v.way, func(r subscribed) bool {
		return !r.permissions.AllowsRepository(repository, auth.ContentRead)
	})
}

// site returns what is known of the connected registry name.
func (s *Service) site(c *storage.View, name string) (v site, err error) {
	if s.control.IsSelf(name) {
		return v, control.Invalid("'%s' is this registry itself", s.control.Self()).WithHint("ask for its own sync: ferry sync status")
	}
	state := s.control.State()
	r := state.Registry(name)
	if r == nil {
		return v, control.MapNotFound(metadb.ErrNotFound, "connected registry", name)
	}
	head, _, err := c.FeedHead()
	if err != nil {
		return v, err
	}
	return s.siteOf(state, r, head, newListCache())
}

// siteOf returns what is known of a connected registry below this instance.
func (s *Service) siteOf(state *control.State, r *control.Registry, head int64, lists listCache) (v site, err error) {
	v = site{Registry: r, state: state, report: s.reports.of(r.Name), head: head, lists: lists}
	if w := v.report.Status.Watermarks[s.control.InstanceID()]; w <= head { // else it is of a database that was lost
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
func (v *site) follow(state *control.State, r *control.Registry) (err error) {
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

// A listCache has the listings that were computed for one request, which sites
// with the same filters share.
type listCache map[listKey][]gateway.Item

type listKey struct{ repository, filter string }

func newListCache() listCache { return listCache{} }

// maxCached is how many listings a cache has.
const maxCached = 1000

func (l listCache) of(c *storage.View, repository string, r subscribed) ([]gateway.Item, error) {
	key := listKey{repository, r.filterID}
	if items, ok := l[key]; ok {
		return items, nil
	}
	items, err := gateway.List(c, repository, r.filter)
	if err != nil {
		return nil, err
	}
	if len(l) >= maxCached {
		clear(l)
	}
	l[key] = items
	return items, nil
}
