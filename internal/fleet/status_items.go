package fleet

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"ferry/internal/api"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// SiteItems returns up to limit items behind a place: what the connected
// registry name is to have, or what of it is not known to be in sync. more says
// that there are others behind them.
func (s *Service) SiteItems(ctx context.Context, name string, at Place, limit int) (all []api.SyncItem, more bool, err error) {
	var v site
	err = s.db.View(ctx, func(tx *metadb.Tx) (err error) {
		v, err = s.site(tx, name)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for i, err := range s.itemsOf(ctx, v, at) {
		switch {
		case err != nil:
			return nil, false, err
		case at.Open && i.State == api.InSync:
			continue
		case len(all) == limit:
			return all, true, nil
		}
		all = append(all, i)
	}
	return all, false, nil
}

// itemsOf returns the items of a site behind a place: what it said is open,
// and the tags that it is to have, of which what it said counts.
func (s *Service) itemsOf(ctx context.Context, v site, at Place) iter.Seq2[api.SyncItem, error] {
	return func(yield func(api.SyncItem, error) bool) {
		said := v.said(at)
		for t, err := range s.siteTags(ctx, v, at) {
			if err != nil {
				yield(api.SyncItem{}, err)
				return
			}
			i := v.guess(t)
			for len(said) > 0 && inOrder(said[0], i) <= 0 {
				var next api.SyncItem
				if next, said = said[0], said[1:]; inOrder(next, i) == 0 {
					i = moved(next, i.ParentDigest)
				} else if !yield(next, nil) {
					return
				}
			}
			if !yield(i, nil) {
				return
			}
		}
		for _, i := range said {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// inOrder compares items by repository and by their place in it.
func inOrder(a, b api.SyncItem) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Key, b.Key))
}

// said returns what a site said is open, behind a place and in order.
func (v site) said(at Place) (all []api.SyncItem) {
	for _, o := range v.heard.Status.Open {
		if i := OpenItemOf(o); inOrder(i, api.SyncItem{Repository: at.Repository, Key: at.Key}) > 0 {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, inOrder)
	return all
}

// OpenItemOf returns an item that a connected registry said is open.
func OpenItemOf(o wire.OpenItem) api.SyncItem {
	i := api.SyncItem{
		Repository: o.Repository, Tag: api.Text(o.Tag), State: api.Pending, Digest: api.Text(string(o.Here)), ParentDigest: api.Text(string(o.Digest)),
		LastMatchTime: api.Time(o.MatchedAt), Error: api.Text(o.Error), Key: cmp.Or(o.Tag, string(o.Digest)),
	}
	switch {
	case o.Error != "":
		i.State = api.Failed
	case o.Digest == "":
		i.State = api.ToRemove
	}
	addProgress(&i, o)
	return i
}

// moved returns an item that the site said is open, of a tag that names a
// digest now: when that is another one, the site has yet to try it.
func moved(i api.SyncItem, now *string) api.SyncItem {
	if i.ParentDigest != nil && *i.ParentDigest == *now {
		return i
	}
	return api.SyncItem{Repository: i.Repository, Tag: i.Tag, State: api.Pending, Digest: i.Digest, ParentDigest: now, LastMatchTime: i.LastMatchTime, Key: i.Key}
}

// guess returns a tag of which the site said nothing: it has it, unless it
// did not know of it, or that it is for it, has counted nothing yet, or has more
// open than it said. Of a site that is below another, more may be here than there.
func (v site) guess(t repositoryTag) api.SyncItem {
	i := api.SyncItem{Repository: t.repository, Tag: api.Text(t.Name), State: api.Pending, ParentDigest: api.Text(string(t.Digest)), Key: t.Name}
	st := v.heard.Status
	switch open := st.ItemsPending + st.ItemsFailed; {
	case st.ItemsSynced+open == 0, t.Seq > v.above, t.fresh:
	case t.Seq > v.heard.Cursor, open > len(st.Open), v.vague:
		i.State = api.Unknown
	default:
		i.State, i.Digest, i.LastMatchTime = api.InSync, i.ParentDigest, api.Time(st.At)
	}
	return i
}

// A repositoryTag is a tag with its repository.
type repositoryTag struct {
	repository string
	storage.Tag
	fresh bool // the site, or one above it, was not known to be told that it is for it
}

// pageOf is how many rows are read at a time.
const pageOf = 500

// siteTags returns the tags behind a place that a site is to have, by
// repository and name.
func (s *Service) siteTags(ctx context.Context, v site, at Place) iter.Seq2[repositoryTag, error] {
	return func(yield func(repositoryTag, error) bool) {
		if at.Repository != "" && v.mayRead(at.Repository) && !s.tagsOf(ctx, v, at, yield) {
			return
		}
		for {
			repositories, err := s.content.Repositories(ctx, at.Repository, pageOf)
			if err != nil {
				yield(repositoryTag{}, err)
			}
			if err != nil || len(repositories) == 0 {
				return
			}
			for _, r := range repositories {
				at.Repository = r.Name
				if v.mayRead(r.Name) && !s.tagsOf(ctx, v, Place{Repository: r.Name}, yield) {
					return
				}
			}
		}
	}
}

// tagsOf hands on the tags of one repository that a site is to have, and
// reports whether more are wanted.
func (s *Service) tagsOf(ctx context.Context, v site, at Place, yield func(repositoryTag, error) bool) bool {
	in, err := s.selects(ctx, v.reach, at.Repository)
	told := make([]func(tag string) bool, len(v.followed))
	for i := 0; i < len(told) && err == nil; i++ {
		told[i], err = s.selects(ctx, v.followed[i], at.Repository)
	}
	for err == nil {
		var tags []storage.Tag
		tags, err = s.content.Tags(ctx, at.Repository, at.Key, pageOf)
		for _, t := range tags {
			at.Key = t.Name
			fresh := slices.ContainsFunc(told, func(in func(string) bool) bool { return !in(t.Name) })
			if in(t.Name) && !yield(repositoryTag{at.Repository, t, fresh}, nil) {
				return false
			}
		}
		if len(tags) < pageOf {
			break
		}
	}
	if err != nil && !errors.Is(err, oci.ErrNameUnknown) { // it went meanwhile
		yield(repositoryTag{}, err)
		return false
	}
	return true
}

// selects returns what reports whether a tag of a repository is in reach.
func (s *Service) selects(ctx context.Context, r reach, repository string) (in func(tag string) bool, err error) {
	n := r.scope.KeepLast()
	switch {
	case !r.mayRead(repository):
		return func(string) bool { return false }, nil
	case n == 0:
		return r.scope.Matches, nil
	}
	tags, err := gateway.Newest(ctx, s.content, repository, r.scope, n)
	kept := map[string]bool{}
	for _, t := range tags {
		kept[t.Name] = true
	}
	return func(tag string) bool { return kept[tag] }, err
}
