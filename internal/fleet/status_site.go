package fleet

import (
	"context"
	"errors"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/subscription"
)

// SiteSync returns what the connected registry name last said of its sync.
func (s *Service) SiteSync(ctx context.Context, name string) (v api.SiteSync, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		site, err := s.site(tx, name)
		if err != nil {
			return err
		}
		v = api.SiteSync{
			Name: site.row.Name, ConnectionState: connectionState(site.row, site.spec, site.report, s.now()), Activation: activationOf(site.row),
			HeardTime: api.Time(site.report.SeenAt),
		}
		if v.HeardTime != nil {
			age := int64(max(s.now().Sub(site.report.SeenAt), 0) / time.Second)
			v.AgeSeconds, v.Sync = &age, syncStatusOf(site.report.Status)
		}
		return nil
	})
	return v, err
}

// A site is what is known of a connected registry.
type site struct {
	row       metadb.ConnectedRegistry
	spec      control.Spec
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

func (s *Service) site(tx *metadb.Tx, name string) (v site, err error) {
	if s.control.IsSelf(name) {
		return v, control.Invalid("'%s' is this registry itself", s.control.Self()).WithHint("ask for its own sync: ferry sync status")
	}
	if v.row, err = tx.ConnectedRegistry(name); err != nil {
		return v, control.MapNotFound(err, "connected registry", name)
	}
	if v.spec, err = control.SpecOf(v.row); err != nil {
		return v, err
	}
	if v.report, err = lastReportOf(v.row); err != nil {
		return v, err
	}
	head, _, err := tx.FeedHead()
	if err != nil {
		return v, err
	}
	if w := v.report.Status.Watermarks[s.control.InstanceID()]; w <= head { // else it is of a database that was lost
		v.watermark = w
	}
	for row := v.row; ; {
		if err := v.follow(tx, row); err != nil {
			return v, err
		}
		if row.Parent == "" || s.control.IsSelf(row.Parent) || len(v.way) > maxDepth {
			return v, nil
		}
		row, err = tx.ConnectedRegistry(row.Parent)
		if errors.Is(err, metadb.ErrNotFound) {
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
}

// follow adds what a connected registry on the way to the site gets.
func (v *site) follow(tx *metadb.Tx, row metadb.ConnectedRegistry) error {
	spec, err := control.SpecOf(row)
	if err != nil {
		return err
	}
	sub := gateway.SubscriptionOf(wireOf(row, spec))
	v.changed = max(v.changed, spec.SubscriptionSeq)
	token, err := tx.Token(row.SyncToken)
	var m metadb.ScopeMap
	if err == nil {
		m, err = tx.ScopeMap(token.ScopeMap)
	}
	if err != nil && !errors.Is(err, metadb.ErrNotFound) { // without them, it may have nothing
		return err
	}
	v.changed = max(v.changed, token.Seq, m.Seq)
	var r subscribed
	if r.permissions, err = auth.ParsePermissions(control.OnRepositories(m.Actions)); err != nil {
		return err
	}
	if r.filter, err = sub.Filter(); err != nil {
		return err
	}
	v.way = append(v.way, r)
	return nil
}
