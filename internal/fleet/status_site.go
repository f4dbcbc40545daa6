package fleet

import (
	"context"
	"errors"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// SiteSync returns what the connected registry name last said of its sync.
func (s *Service) SiteSync(ctx context.Context, name string) (v api.SiteSync, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		site, err := s.site(tx, name)
		if err != nil {
			return err
		}
		v = api.SiteSync{
			Name: site.row.Name, ConnectionState: connectionState(site.row, site.spec, site.heard, s.now()), Activation: activationOf(site.row),
			HeardTime: api.Time(site.heard.SeenAt),
		}
		if v.HeardTime != nil {
			age := int64(max(s.now().Sub(site.heard.SeenAt), 0) / time.Second)
			v.AgeSeconds, v.Sync = &age, syncStatusOf(site.heard.Status)
		}
		return nil
	})
	return v, err
}

// A site is what is known of a connected registry.
type site struct {
	row   metadb.ConnectedRegistry
	spec  control.Spec
	heard heard
	above int64 // up to where in the feed here its parent knew of everything

	reach            // what is for it
	followed []reach // what it, and those above it, knew to be for them
	vague    bool    // nobody knows, or what of an index it was has changed
}

// A reach is what of the content here is for a site.
type reach struct {
	permissions auth.Permissions
	scope       subscription.Scope
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
	if v.heard, err = heardOf(v.row); err != nil {
		return v, err
	}
	v.above = v.heard.Cursor
	for row, n := v.row, 0; row.Parent != "" && !s.control.IsSelf(row.Parent) && n < maxDepth; n++ {
		if row, err = tx.ConnectedRegistry(row.Parent); errors.Is(err, metadb.ErrNotFound) {
			break
		}
		if err != nil {
			return v, err
		}
		h, err := heardOf(row)
		if err != nil {
			return v, err
		}
		if n == 0 {
			v.above = max(v.above, h.Cursor)
		}
		if err := v.follows(h.Reach); err != nil {
			return v, err
		}
	}
	now, err := reachOf(tx, v.row, v.spec)
	if err != nil {
		return v, err
	}
	if v.reach, err = parseReach(now); err != nil {
		return v, err
	}
	if was := v.heard.Reach; was != nil && !was.SamePlatforms(now) {
		v.vague = true
	}
	err = v.follows(v.heard.Reach)
	return v, err
}

// follows notes what the site, or one above it, knew to be for it.
func (v *site) follows(r *wire.Reach) error {
	if r == nil {
		v.vague = true
		return nil
	}
	parsed, err := parseReach(*r)
	v.followed = append(v.followed, parsed)
	return err
}

// reachOf returns what of the content here is for a connected registry.
func reachOf(tx *metadb.Tx, row metadb.ConnectedRegistry, v control.Spec) (wire.Reach, error) {
	r := wireOf(row, v).Reach()
	token, err := tx.Token(row.SyncToken)
	if err == nil {
		var m metadb.ScopeMap
		m, err = tx.ScopeMap(token.ScopeMap)
		r.Permissions = control.OnRepositories(m.Actions)
	}
	if errors.Is(err, metadb.ErrNotFound) { // and with it all that it may have
		r.Permissions, err = nil, nil
	}
	return r, err
}

func parseReach(r wire.Reach) (parsed reach, err error) {
	if parsed.permissions, err = auth.ParsePermissions(r.Permissions); err == nil {
		parsed.scope, err = subscription.Parse(r.TagFilters, r.KeepLast)
	}
	return parsed, err
}

// mayRead reports whether content of a repository is in reach.
func (r reach) mayRead(repository string) bool {
	return r.permissions.AllowsRepository(repository, auth.ContentRead)
}
