package fleet

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// DescendantItems returns up to limit items behind a place: what the connected
// registry name is to have, or what of it is not known to be in sync. more says
// that there are others behind them.
func (s *Service) DescendantItems(ctx context.Context, name string, at Place,
	limit int) (all []api.SyncItem, more bool, err error) {
	var v descendant
	var verdict api.Verdict
	err = s.content.View(ctx, func(c *storage.View) (err error) {
		if v, err = s.descendant(c, name); err == nil {
			verdict, err = s.verdict(c, v)
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for repository, err := range s.repositoriesFrom(ctx, v, at.Repository) {
		if err != nil {
			return nil, false, err
		}
		var items []api.SyncItem
		err := s.content.View(ctx, func(c *storage.View) (err error) {
			items, err = v.itemsIn(c, repository)
			return err
		})
		if err != nil {
			return nil, false, err
		}
		for _, i := range items {
			i = asKnown(i, verdict)
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

// asKnown returns an item as the verdict on its site lets it be: nothing is in
// sync where nothing is known. What was known last is still said.
func asKnown(i api.SyncItem, v api.Verdict) api.SyncItem {
	if i.State == api.InSync && v.Status == api.Unknown {
		i.State = api.Unknown
	}
	return i
}

// repositoriesPage is how many repositories are read at a time.
const repositoriesPage = 500

// repositoriesFrom returns the repository from, unless that is "", and in order
// those behind it that are here, that were deleted since the site knew of
// everything, or that it said something of.
func (s *Service) repositoriesFrom(ctx context.Context, v descendant, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if from != "" && !yield(from, nil) {
			return
		}
		for last := false; !last; {
			var names, others []string
			err := s.content.View(ctx, func(c *storage.View) (err error) {
				if names, err = c.Repositories(from, repositoriesPage); err == nil && v.watermark > 0 {
					others, err = c.DeletedSince(v.watermark)
				}
				return err
			})
			if err != nil {
				yield("", err)
				return
			}
			last = len(names) < repositoriesPage
			for _, o := range v.report.Status.Open {
				others = append(others, o.Repository)
			}
			end := len(names) - 1
			for _, name := range others {
				if name > from && (last || name < names[end]) {
					names = append(names, name)
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
// open, and the tags that it is to have or to lose, of which what it said counts.
// A manifest without a tag, such as a signature, is one only where it is not in sync.
func (v descendant) itemsIn(c *storage.View, repository string) (items []api.SyncItem, _ error) {
	tags, err := v.tagsIn(c, repository)
	if err != nil {
		return nil, err
	}
	removed, err := v.removedFrom(c, repository)
	if err != nil {
		return nil, err
	}
	open := map[string]api.SyncItem{} // by key
	for _, o := range v.report.Status.Open {
		if o.Repository == repository {
			i := OpenItemOf(o)
			open[i.Key] = i
		}
	}
	for _, t := range tags {
		i := v.stateOf(t)
		if o, ok := open[i.Key]; ok {
			i = moved(o, i.ParentDigest)
			delete(open, i.Key)
		}
		if t.name != "" || i.State == api.Pending {
			items = append(items, i)
		}
	}
	for _, i := range removed {
		if o, ok := open[i.Key]; ok {
			i.Digest, i.LastMatchTime = o.Digest, o.LastMatchTime
			delete(open, i.Key)
		}
		items = append(items, i)
	}
	if len(open) > 0 {
		here, err := c.HasRepository(repository)
		if err != nil {
			return nil, err
		}
		if !here {
			open = leaving(open, removed)
		}
	}
	items = slices.AppendSeq(items, maps.Values(open))
	slices.SortFunc(items, func(a, b api.SyncItem) int { return cmp.Compare(a.Key, b.Key) })
	return items, nil
}

// leaving returns what is left to do of a site's open items in a repository that
// is no longer here: to remove what it has of them, unless that is said of the
// whole repository already.
func leaving(open map[string]api.SyncItem, removed []api.SyncItem) map[string]api.SyncItem {
	left := map[string]api.SyncItem{}
	for key, i := range open {
		if len(removed) > 0 || i.ParentDigest != nil && i.Digest == nil {
			continue
		}
		i.ParentDigest, i.Error, i.State = nil, nil, api.ToRemove
		left[key] = i
	}
	return left
}

// changedIn reports whether anything changed in a repository, for the site, since the site knew
// of everything.
func (v descendant) changedIn(c *storage.View, repository string) (bool, error) {
	entry, err := c.FeedEntry(repository)
	if err != nil {
		return false, err
	}
	tags, err := v.tagsIn(c, repository)
	if err != nil {
		return false, err
	}
	for _, t := range tags {
		if max(t.seq, t.scopeSeq, entry.RelistSeq) > v.watermark {
			return true, nil
		}
	}
	removed, err := v.removedFrom(c, repository)
	return len(removed) > 0, err
}

// removedFrom returns the tags that were removed from a repository since the site
// knew of everything, and that it gets no longer; of a repository that was
// deleted with all its tags, one item without a name. With keep-last, every tag
// of the repository has yet to be looked at anyway.
func (v descendant) removedFrom(c *storage.View, repository string) (items []api.SyncItem, _ error) {
	if v.watermark == 0 || !v.mayRead(repository) {
		return nil, nil
	}
	entry, err := c.FeedEntry(repository)
	if err != nil || entry.Seq <= v.watermark {
		return nil, err
	}
	here, err := c.HasRepository(repository)
	if err != nil {
		return nil, err
	}
	if !here {
		return []api.SyncItem{{Repository: repository, State: api.ToRemove}}, nil
	}
	names, err := c.Removed(repository, v.watermark)
	if err != nil {
		return nil, err
	}
	tags, err := c.Tags(repository)
	back := map[string]bool{} // tags that are here, again
	for _, t := range tags {
		back[t.Name] = true
	}
	for _, name := range names {
		if !back[name] && oci.CheckTag(name) == nil && v.selects(name) {
			items = append(items, api.SyncItem{Repository: repository, Tag: &name, State: api.ToRemove, Key: name})
		}
	}
	return items, err
}

// selects reports whether everybody on the way to the site selects a tag by its name alone.
func (v descendant) selects(tag string) bool {
	return !slices.ContainsFunc(v.way, func(r subscribed) bool {
		return r.filter.Tags.KeepLast() > 0 || !r.filter.Tags.Matches(tag)
	})
}

// OpenItemOf returns an item that a connected registry said is open.
func OpenItemOf(o wire.OpenItem) api.SyncItem {
	i := api.SyncItem{
		Repository: o.Repository, Tag: api.Text(o.Tag), State: api.Pending, Digest: api.Text(string(o.Here)),
		ParentDigest:  api.Text(string(o.Digest)),
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

// stateOf derives the state of a tag that the site did not list as out of sync. A tag that
// changed since the site knew of everything is pending, and any other is in sync. It is unknown
// if only a change of the site's scope may have brought it to the site, or if the site did not
// list everything that is out of sync.
func (v descendant) stateOf(t selectedTag) api.SyncItem {
	i := api.SyncItem{
		Repository: t.repository, Tag: api.Text(t.name), State: api.Pending, ParentDigest: api.Text(string(t.digest)),
		Key: t.key(),
	}
	st := v.report.Status
	switch {
	case t.seq > v.watermark:
	case max(t.scopeSeq, v.changed) > v.watermark, st.ItemsPending+st.ItemsFailed > len(st.Open):
		i.State = api.Unknown
	default:
		i.State, i.Digest, i.LastMatchTime = api.InSync, i.ParentDigest, api.Time(v.report.SeenAt)
	}
	return i
}

// A selectedTag is a tag that a site gets, or a manifest without one, which has no name.
type selectedTag struct {
	repository, name string
	digest           digest.Digest
	seq              int64 // of the last change to it
	scopeSeq         int64 // of the last change to the repository that may have brought it into the site's scope
}

func (t selectedTag) key() string { return cmp.Or(t.name, string(t.digest)) }

// tagsIn returns the tags of a repository, and the manifests without one, that
// everybody on the way to the site gets.
func (v descendant) tagsIn(c *storage.View, repository string) (tags []selectedTag, _ error) {
	if !v.mayRead(repository) {
		return nil, nil
	}
	entry, err := c.FeedEntry(repository)
	if err != nil {
		return nil, err
	}
	got := map[string]int{} // by how many of those on the way, by tag or digest
	for i, r := range v.way {
		items, err := v.shared.listing(c, repository, r)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			name := item.Name()
			if got[name] == i {
				got[name]++
			}
			if got[name] == len(v.way) {
				tags = append(tags, selectedTag{repository: repository, name: item.Tag, digest: item.Digest, seq: item.Seq})
			}
		}
	}
	tagSeq, attachedSeq, err := v.scopeSeqs(c, entry)
	for i := range tags {
		t := &tags[i]
		_, attached := subscription.Subject(t.name)
		switch t.scopeSeq = tagSeq; {
		case t.name == "":
			t.scopeSeq = max(tagSeq, entry.RelistSeq)
		case attached:
			t.scopeSeq = max(tagSeq, attachedSeq)
		}
	}
	return tags, err
}

// scopeSeqs returns the numbers of the last changes to a repository that may have brought old
// tags into the site's scope: any tag, and one that belongs to a manifest. A filter without
// keep-last selects a tag by its name alone, so that nothing brings in an old one. With
// keep-last the removal of a newer tag does, and a filter brings in the signatures of a manifest
// together with the manifest.
func (v descendant) scopeSeqs(c *storage.View, entry storage.FeedEntry) (tag, attached int64, err error) {
	for _, r := range v.way {
		if !r.filter.Tags.All() {
			attached = entry.Seq
		}
		if r.filter.Tags.KeepLast() == 0 {
			continue
		}
		removed, err := c.Removed(entry.Repository, v.watermark)
		if err != nil {
			return 0, 0, err
		}
		counted := func(name string) bool { return oci.CheckTag(name) == nil && r.filter.Tags.Matches(name) }
		if tag = max(tag, entry.RelistSeq); slices.ContainsFunc(removed, counted) {
			tag = entry.Seq
		}
	}
	return tag, attached, nil
}
