package fleet

import (
	"context"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// SiteSync returns what the connected registry name last said of its sync.
func (s *Service) SiteSync(ctx context.Context, name string) (v api.SiteSync, err error) {
	site, err := s.site(ctx, name)
	if err != nil {
		return v, err
	}
	v = api.SiteSync{
		Name: site.Name, ConnectionState: connectionState(site.ConnectedRegistry, site.Settings, site.report, s.now()),
		Activation: activationOf(site.ConnectedRegistry), HeardTime: api.Time(site.report.SeenAt),
	}
	if v.HeardTime != nil {
		age := int64(max(s.now().Sub(site.report.SeenAt), 0) / time.Second)
		v.AgeSeconds, v.Sync = &age, syncStatusOf(site.report.Status)
	}
	return v, nil
}

// A site is what is known of a connected registry.
type site struct {
	*control.Registry
	report    lastReport
	watermark int64        // up to where in the feed here it said that it knows of everything
	changed   int64        // the number of the last change of what it, or one above it, gets
	way       []subscribed // itself, and those between it and this instance
}

// subscribed is what of the content here a connected registry gets.
type subscribed struct {
	permissions auth.Permissions
	filter      subscription.Filter
}

// mayRead reports whether it gets anything of a repository.
func (r subscribed) mayRead(repository string) bool {
	return r.permissions.AllowsRepository(repository, auth.ContentRead)
}

func (s *Service) site(ctx context.Context, name string) (v site, err error) {
	if s.control.IsSelf(name) {
		return v, control.Invalid("'%s' is this registry itself", s.control.Self()).WithHint("ask for its own sync: ferry sync status")
	}
	state := s.control.State()
	if v.Registry = state.Registry(name); v.Registry == nil {
		return v, control.MapNotFound(metadb.ErrNotFound, "connected registry", name)
	}
	v.report = s.reports.of(name)
	var head int64
	err = s.content.View(ctx, func(c *storage.View) (err error) {
		head, _, err = c.FeedHead()
		return err
	})
	if err != nil {
		return v, err
	}
	if w := v.report.Status.Watermarks[s.control.InstanceID()]; w <= head { // else it is of a database that was lost
		v.watermark = w
	}
	for _, r := range append([]*control.Registry{v.Registry}, state.Ancestors(v.Parent)...) {
		if s.control.IsSelf(r.Name) {
			break
		}
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
	s.filter, err = gateway.SubscriptionOf(wireOf(r.ConnectedRegistry, r.Settings)).Filter()
	v.way = append(v.way, s)
	return err
}
