package fleet

import (
	"cmp"
	"context"
	"iter"
	"maps"
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
	for repository, err := range s.repositoriesFrom(ctx, v, at.Repository) {
		if err != nil {
			return nil, false, err
		}
		items, err := s.itemsIn(ctx, v, repository)
		if err != nil {
			return nil, false, err
		}
		for _, i := range items {
			switch {
			case repository == at.Repository && i.Key <= at.Key:
			case at.Open && i.State == api.InSync:
			case len(all) == limit:
				return all, true, nil
			default:
				all = append(all, i)
			}
		}
	}
	return all, false, nil
}

// repositoriesPage is how many repositories are read at a time.
const repositoriesPage = 500

// repositoriesFrom returns the repository from, unless that is "", and in order
// those behind it that are here or that the site said something of.
func (s *Service) repositoriesFrom(ctx context.Context, v site, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if from != "" && !yield(from, nil) {
			return
		}
		for last := false; !last; {
			var names []string
			err := s.content.View(ctx, func(c *storage.View) (err error) {
				names, err = c.Repositories(from, repositoriesPage)
				return err
			})
			if err != nil {
				yield("", err)
				return
			}
			last = len(names) < repositoriesPage
			for _, o := range v.report.Status.Open {
				if o.Repository > from && (last || o.Repository < names[repositoriesPage-1]) {
					names = append(names, o.Repository)
				}
			}
			slices.Sort(names)
			for _, name := range slices.Compact(names) {
				if from = name; !yield(name, nil) {
					return
				}
			}
		}
	}
}

// itemsIn returns a site's items of one repository, in order: what it said is
// open, and the tags that it is to have, of which what it said counts.
func (s *Service) itemsIn(ctx context.Context, v site, repository string) (items []api.SyncItem, _ error) {
	open := map[string]api.SyncItem{} // by key
	for _, o := range v.report.Status.Open {
		if o.Repository == repository {
			i := OpenItemOf(o)
			open[i.Key] = i
		}
	}
	var tags []siteTag
	if !slices.ContainsFunc(v.way, func(r subscribed) bool { return !r.mayRead(repository) }) {
		err := s.content.View(ctx, func(c *storage.View) (err error) {
			tags, err = v.tagsIn(c, repository)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, t := range tags {
		i := v.stateOf(t)
		if o, ok := open[t.name]; ok {
			i = moved(o, i.ParentDigest)
			delete(open, t.name)
		}
		items = append(items, i)
	}
	items = slices.AppendSeq(items, maps.Values(open))
	slices.SortFunc(items, func(a, b api.SyncItem) int { return cmp.Compare(a.Key, b.Key) })
	return items, nil
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
	return api.SyncItem{
		Repository: i.Repository, Tag: i.Tag, State: api.Pending, Digest: i.Digest, ParentDigest: now,
		LastMatchTime: i.LastMatchTime, Key: i.Key,
	}
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
