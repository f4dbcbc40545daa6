package fleet

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/gateway"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// SiteItems returns up to limit items behind a place: what the connected
// registry name is to have, or what of it is not known to be in sync. more says
// that there are others behind them.
func (s *Service) SiteItems(ctx context.Context, name string, at Place, limit int) (all []api.SyncItem, more bool, err error) {
	v, err := s.site(ctx, name)
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
			i := v.stateOf(t)
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
	for _, o := range v.report.Status.Open {
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

// stateOf derives the state of a tag that the site did not list as out of sync:
// it is in sync up to the site's watermark, and unknown where the list was cut.
func (v site) stateOf(t siteTag) api.SyncItem {
	i := api.SyncItem{Repository: t.repository, Tag: api.Text(t.name), State: api.Pending, ParentDigest: api.Text(string(t.digest)), Key: t.name}
	st := v.report.Status
	switch open := st.ItemsPending + st.ItemsFailed; {
	case max(t.seq, v.changed) > v.watermark:
	case open > len(st.Open):
		i.State = api.Unknown
	default:
		i.State, i.Digest, i.LastMatchTime = api.InSync, i.ParentDigest, api.Time(st.At)
	}
	return i
}

// A siteTag is a tag that a site gets.
type siteTag struct {
	repository, name string
	digest           digest.Digest
	seq              int64 // of the last change that the site must know of to have it
}

// repositoriesPage is how many repositories are read at a time.
const repositoriesPage = 500

// siteTags returns the tags behind a place that a site gets, by repository and
// name.
func (s *Service) siteTags(ctx context.Context, v site, at Place) iter.Seq2[siteTag, error] {
	return func(yield func(siteTag, error) bool) {
		if at.Repository != "" && !s.tagsOf(ctx, v, at, yield) {
			return
		}
		for {
			var names []string
			err := s.content.View(ctx, func(c *storage.View) (err error) {
				names, err = c.Repositories(at.Repository, repositoriesPage)
				return err
			})
			if err != nil {
				yield(siteTag{}, err)
			}
			if err != nil || len(names) == 0 {
				return
			}
			for _, name := range names {
				at.Repository = name
				if !s.tagsOf(ctx, v, Place{Repository: name}, yield) {
					return
				}
			}
		}
	}
}

// tagsOf hands on the tags of one repository that a site gets, and reports
// whether more are wanted.
func (s *Service) tagsOf(ctx context.Context, v site, at Place, yield func(siteTag, error) bool) bool {
	if slices.ContainsFunc(v.way, func(r subscribed) bool { return !r.mayRead(at.Repository) }) {
		return true
	}
	var tags []siteTag
	err := s.content.View(ctx, func(c *storage.View) (err error) {
		tags, err = v.tagsIn(c, at.Repository)
		return err
	})
	if err != nil {
		yield(siteTag{}, err)
		return false
	}
	for _, t := range tags {
		if t.name > at.Key && !yield(t, nil) {
			return false
		}
	}
	return true
}

// tagsIn returns the tags of a repository that everybody on the way to the site
// gets, by name.
func (v site) tagsIn(c *storage.View, repository string) (tags []siteTag, _ error) {
	entry, err := c.FeedEntry(repository)
	if err != nil {
		return nil, err
	}
	seq, attached := entry.RelistSeq, int64(0)
	got := map[string]int{} // by how many of those on the way
	for i, r := range v.way {
		items, err := gateway.List(c, repository, r.filter)
		if err != nil {
			return nil, err
		}
		if r.filter.Tags.KeepLast() > 0 { // a tag that is removed may bring an old one back
			seq = entry.Seq
		}
		if !r.filter.Tags.All() { // a tag that is set may bring those that belong to its manifest
			attached = entry.Seq
		}
		for _, item := range items {
			if item.Tag != "" && got[item.Tag] == i {
				got[item.Tag]++
			}
			if item.Tag != "" && got[item.Tag] == len(v.way) {
				tags = append(tags, siteTag{repository, item.Tag, item.Digest, item.Seq})
			}
		}
	}
	for i := range tags {
		tags[i].seq = max(tags[i].seq, seq)
		if _, belongs := subscription.Subject(tags[i].name); belongs {
			tags[i].seq = max(tags[i].seq, attached)
		}
	}
	return tags, nil
}
