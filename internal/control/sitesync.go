package control

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"ferry/internal/auth"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/scope"
	"ferry/internal/storage"
)

// A SiteSync is what a connected registry last said of its sync, as its
// ancestor has it: also of one that is offline.
type SiteSync struct {
	Name            string      `json:"name"`
	ConnectionState string      `json:"connectionState" enum:"Online,Offline,Syncing,Unhealthy"`
	HeardTime       *time.Time  `json:"heardTime" doc:"When this was heard; null is never."`
	AgeSeconds      *int64      `json:"ageSeconds" doc:"How long ago that is."`
	Sync            *SyncStatus `json:"sync"`
}

// SiteSync returns what the connected registry name last said of its sync.
func (s *Service) SiteSync(ctx context.Context, name string) (v SiteSync, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		site, err := s.site(tx, name)
		if err != nil {
			return err
		}
		v = SiteSync{Name: site.row.Name, ConnectionState: connectionState(site.row, site.spec, site.heard, s.now()), HeardTime: moment(site.heard.SeenAt)}
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
	row         metadb.ConnectedRegistry
	spec        spec
	heard       heard
	permissions auth.Permissions
	scope       scope.Scope
}

func (s *Service) site(tx *metadb.Tx, name string) (v site, err error) {
	if v.row, err = tx.ConnectedRegistry(name); err != nil {
		return v, found(err, "connected registry", name)
	}
	if v.spec, err = specOf(v.row); err != nil {
		return v, err
	}
	if v.heard, err = heardOf(v.row); err != nil {
		return v, err
	}
	if v.scope, err = scope.Parse(v.spec.TagFilters, v.spec.KeepLast); err != nil {
		return v, err
	}
	token, err := tx.Token(v.row.SyncToken)
	if err == nil {
		var m metadb.ScopeMap
		if m, err = tx.ScopeMap(token.ScopeMap); err == nil {
			v.permissions, err = auth.ParsePermissions(m.Actions)
		}
	}
	if errors.Is(err, metadb.ErrNotFound) {
		err = nil // its token is gone, and with it all that it may have
	}
	return v, err
}

// mayRead reports whether the site is to have what is in a repository.
func (v site) mayRead(repository string) bool {
	return v.permissions.AllowsRepository(repository, auth.ContentRead)
}

// siteItems returns a page of what a site is to have. What it said of an item
// counts; of the others, those that moved here since it was heard are to come.
func (a *api) siteItems(ctx context.Context, name string, at syncPlace, n int) (*syncItemPage, error) {
	var v site
	err := a.Service.db.View(ctx, func(tx *metadb.Tx) (err error) {
		v, err = a.Service.site(tx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	page := &syncItemPage{}
	page.Body.Value = []SyncItem{}
	if at.Open {
		for _, o := range v.heard.Status.Open {
			page.Body.Value = append(page.Body.Value, openItemOf(o))
		}
		return page, nil
	}
	tags, err := a.siteTags(ctx, v, at, n+1)
	if err != nil {
		return nil, err
	}
	if len(tags) > n {
		tags = tags[:n]
		last := tags[n-1]
		page.Body.NextLink = root + "/connected-registries/" + url.PathEscape(v.row.Name) + "/sync-items?" +
			url.Values{"n": {strconv.Itoa(n)}, "repository": {last.repository}, "item": {last.Name}}.Encode()
	}
	said := map[[2]string]gateway.OpenItem{}
	for _, o := range v.heard.Status.Open {
		said[[2]string{o.Repository, o.Tag}] = o
	}
	for _, t := range tags {
		if o, ok := said[[2]string{t.repository, t.Name}]; ok {
			page.Body.Value = append(page.Body.Value, openItemOf(o))
			continue
		}
		page.Body.Value = append(page.Body.Value, v.guess(t))
	}
	return page, nil
}

func openItemOf(o gateway.OpenItem) SyncItem {
	i := SyncItem{
		Repository: o.Repository, Tag: text(o.Tag), State: "Pending", Digest: text(string(o.Here)), ParentDigest: text(string(o.Digest)),
		LastMatchTime: moment(o.MatchedAt), Error: text(o.Error),
	}
	switch {
	case o.Error != "":
		i.State = "Failed"
	case o.Digest == "":
		i.State = "ToRemove"
	}
	i.moves(o)
	return i
}

// guess returns a tag of which the site said nothing: it has it, unless it
// was never heard, has more open than it could say, or the tag moved since.
func (v site) guess(t repositoryTag) SyncItem {
	i := SyncItem{Repository: t.repository, Tag: text(t.Name), State: "Pending", ParentDigest: text(string(t.Digest))}
	st := v.heard.Status
	switch {
	case st.LastSyncEnd.IsZero(), t.UpdatedAt.After(v.heard.SeenAt):
	case st.ItemsPending+st.ItemsFailed > len(st.Open):
		i.State = "Unknown"
	default:
		i.State, i.Digest, i.LastMatchTime = "InSync", i.ParentDigest, moment(st.At)
	}
	return i
}

// A repositoryTag is a tag with its repository.
type repositoryTag struct {
	repository string
	storage.Tag
}

// siteTags returns up to limit tags behind a place that a site is to have, by
// repository and name.
func (a *api) siteTags(ctx context.Context, v site, at syncPlace, limit int) (all []repositoryTag, err error) {
	read := func(repository, after string) error {
		kept, err := a.keptTags(ctx, v, repository)
		if err != nil {
			return err
		}
		for len(all) < limit {
			tags, err := a.Repositories.Tags(ctx, repository, after, limit)
			if err != nil && !errors.Is(err, oci.ErrNameUnknown) { // it went meanwhile
				return err
			}
			for _, t := range tags {
				after = t.Name
				if v.scope.Matches(t.Name) && (kept == nil || kept[t.Name]) && len(all) < limit {
					all = append(all, repositoryTag{repository, t})
				}
			}
			if len(tags) < limit {
				return nil
			}
		}
		return nil
	}
	if at.Repository != "" && v.mayRead(at.Repository) {
		if err := read(at.Repository, at.Item); err != nil {
			return nil, err
		}
	}
	for len(all) < limit {
		repositories, err := a.Repositories.Repositories(ctx, at.Repository, 500)
		if err != nil || len(repositories) == 0 {
			return all, err
		}
		for _, r := range repositories {
			at.Repository = r.Name
			if !v.mayRead(r.Name) {
				continue
			}
			if err := read(r.Name, ""); err != nil {
				return nil, err
			}
			if len(all) >= limit {
				break
			}
		}
	}
	return all, nil
}

// keptTags returns the newest tags of a repository, where a site is to have
// no others; nil is that it is to have all.
func (a *api) keptTags(ctx context.Context, v site, repository string) (map[string]bool, error) {
	n := v.scope.KeepLast()
	if n == 0 {
		return nil, nil
	}
	tags, err := gateway.Newest(ctx, a.Repositories, repository, v.scope, n)
	kept := map[string]bool{}
	for _, t := range tags {
		kept[t.Name] = true
	}
	return kept, err
}
