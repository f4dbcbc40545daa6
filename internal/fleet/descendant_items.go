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

// DescendantItems returns up to limit items of the descendant name from a page start on: all items,
// or only those that are not known to be in sync. more reports that other items follow.
func (s *Service) DescendantItems(ctx context.Context, name string, at PageStart,
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
			i = downgrade(i, verdict)
			switch {
			case repository == at.Repository && i.Key <= at.Key:
			case at.OutOfSync && i.State == api.InSync:
			case len(all) == limit:
				return all, true, nil
			default:
				all = append(all, i)
			}
		}
	}
	return all, false, nil
}

// downgrade returns an item that agrees with the verdict on its registry: if the verdict is
// Unknown, no item is in sync. The digests and times that were known last stay.
func downgrade(i api.SyncItem, v api.Verdict) api.SyncItem {
	if i.State == api.InSync && v.Status == api.Unknown {
		i.State = api.Unknown
	}
	return i
}

// repositoriesPage is the number of repositories that are read at once.
const repositoriesPage = 500

// repositoriesFrom returns, in order, the repository from, unless that is "", and every repository
// after it that is stored here, or was deleted after the descendant's watermark, or is in the
// descendant's report.
func (s *Service) repositoriesFrom(ctx context.Context, v descendant, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if from != "" && !yield(from, nil) {
			return
		}
		for last := false; !last; {
			var names, others []string // stored here; deleted, or in the report
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
			for _, o := range v.report.Status.OutOfSync {
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

// itemsIn returns a descendant's items of one repository, in order: the items that its report lists
// as out of sync, the tags that it must have, and the tags that it must remove. If the report lists
// a tag, the report decides its state. A manifest without a tag, such as a signature, is an item
// only while it is not in sync.
func (v descendant) itemsIn(c *storage.View, repository string) (items []api.SyncItem, _ error) {
	tags, err := v.tagsIn(c, repository, v.watermark)
	if err != nil {
		return nil, err
	}
	removed, err := v.removedFrom(c, repository)
	if err != nil {
		return nil, err
	}
	reported := map[string]api.SyncItem{} // by key
	for _, o := range v.report.Status.OutOfSync {
		if o.Repository == repository {
			i := SyncItemOf(o)
			reported[i.Key] = i
		}
	}
	for _, t := range tags {
		i := v.stateOf(t)
		if o, ok := reported[i.Key]; ok {
			i = withParentDigest(o, i.ParentDigest)
			delete(reported, i.Key)
		}
		if t.name != "" || i.State == api.Pending {
			items = append(items, i)
		}
	}
	for _, i := range removed {
		if o, ok := reported[i.Key]; ok {
			i.Digest, i.LastMatchTime = o.Digest, o.LastMatchTime
			delete(reported, i.Key)
		}
		items = append(items, i)
	}
	if len(reported) > 0 {
		here, err := c.HasRepository(repository)
		if err != nil {
			return nil, err
		}
		if !here {
			reported = itemsToRemove(reported, removed)
		}
	}
	items = slices.AppendSeq(items, maps.Values(reported))
	slices.SortFunc(items, func(a, b api.SyncItem) int { return cmp.Compare(a.Key, b.Key) })
	return items, nil
}

// itemsToRemove returns the items that a descendant must still remove or send, from a report about a
// repository that is deleted here. There are none if the removal of the whole repository is an item
// already.
func itemsToRemove(reported map[string]api.SyncItem, removed []api.SyncItem) map[string]api.SyncItem {
	left := map[string]api.SyncItem{}
	for key, i := range reported {
		if i.State == api.ToSend {
			left[key] = i
			continue
		}
		if len(removed) > 0 || i.ParentDigest != nil && i.Digest == nil {
			continue
		}
		i.ParentDigest, i.Error, i.State = nil, nil, api.ToRemove
		left[key] = i
	}
	return left
}

// removedFrom returns the tags that were removed from a repository after the descendant's watermark
// and that it must remove as well. A deleted repository is one item without a name. With keep-last
// the result is empty, because a tag may have left the selection before it was removed.
func (v descendant) removedFrom(c *storage.View, repository string) (items []api.SyncItem, _ error) {
	if v.watermark == 0 || !v.mayRead(repository) {
		return nil, nil
	}
	entry, err := v.cache.entry(c, repository)
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
	removed, err := v.removedTags(c, repository, v.watermark)
	for _, r := range removed {
		items = append(items, api.SyncItem{Repository: repository, Tag: &r.Item, State: api.ToRemove, Key: r.Item})
	}
	return items, err
}

// removedTags returns the tags that the descendant must remove because they were removed from a
// repository after a sequence number, and not set again.
func (v descendant) removedTags(c *storage.View, repository string, after int64) ([]storage.Removal, error) {
	all, err := c.Removed(repository, after)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	tags, err := c.Tags(repository)
	back := map[string]bool{} // tags that were set again
	for _, t := range tags {
		back[t.Name] = true
	}
	return slices.DeleteFunc(all, func(r storage.Removal) bool {
		return back[r.Item] || oci.CheckTag(r.Item) != nil || !v.selects(r.Item)
	}), err
}

// selects reports whether everyone on the path selects a tag by its name alone.
func (v descendant) selects(tag string) bool {
	return !slices.ContainsFunc(v.path, func(r selection) bool {
		return r.filter.Tags.KeepLast() > 0 || !r.filter.Tags.Matches(tag)
	})
}

// SyncItemOf returns the API's form of an item that a report lists as out of sync.
func SyncItemOf(o wire.OutOfSyncItem) api.SyncItem {
	i := api.SyncItem{
		Repository: o.Repository, Tag: api.Text(o.Tag), State: api.Pending, Digest: api.Text(string(o.Here)),
		ParentDigest:  api.Text(string(o.Digest)),
		LastMatchTime: api.Time(o.MatchedAt), Error: api.Text(o.Error), Key: cmp.Or(o.Tag, string(o.Digest)),
	}
	switch {
	case o.Error != "":
		i.State = api.Failed
	case o.Unsent:
		i.State = api.ToSend
	case o.Digest == "":
		i.State = api.ToRemove
	}
	addProgress(&i, o)
	return i
}

// withParentDigest returns an item of a report with the digest that its tag names here now. If that
// differs from the digest in the report, the descendant has yet to try the new one.
func withParentDigest(i api.SyncItem, now *string) api.SyncItem {
	if i.ParentDigest != nil && *i.ParentDigest == *now {
		return i
	}
	return api.SyncItem{
		Repository: i.Repository, Tag: i.Tag, State: api.Pending, Digest: i.Digest, ParentDigest: now,
		LastMatchTime: i.LastMatchTime, Key: i.Key,
	}
}

// stateOf derives the state of a tag that the report does not list as out of sync. A tag that
// changed after the watermark is pending. It is unknown if a change may have added it to the
// descendant's selection, or if the report lists too few items. Any other tag is in sync.
func (v descendant) stateOf(t selectedTag) api.SyncItem {
	i := api.SyncItem{
		Repository: t.repository, Tag: api.Text(t.name), State: api.Pending, ParentDigest: api.Text(string(t.digest)),
		Key: t.key(),
	}
	st := v.report.Status
	switch {
	case t.seq > v.watermark:
	case max(t.scopeSeq, v.changed) > v.watermark, st.ItemsPending+st.ItemsFailed+st.ItemsToSend > len(st.OutOfSync):
		i.State = api.Unknown
	default:
		i.State, i.Digest, i.LastMatchTime = api.InSync, i.ParentDigest, api.Time(v.report.SeenAt)
	}
	return i
}

// A selectedTag is a tag in a descendant's selection, or a manifest without a tag. The name of the
// latter is "".
type selectedTag struct {
	repository, name string
	digest           digest.Digest
	seq              int64 // of the last change to the tag
	scopeSeq         int64 // of the last change that may have added the tag to the selection
}

func (t selectedTag) key() string { return cmp.Or(t.name, string(t.digest)) }

// tagsIn returns the tags of a repository, and the manifests without one, that everyone on the path
// gets. Their scopeSeq is right if it is after the sequence number after.
func (v descendant) tagsIn(c *storage.View, repository string, after int64) (tags []selectedTag, _ error) {
	if !v.mayRead(repository) {
		return nil, nil
	}
	entry, err := v.cache.entry(c, repository)
	if err != nil {
		return nil, err
	}
	got := map[string]int{} // the number of registries on the path that get it, by tag or digest
	for i, r := range v.path {
		listing, err := v.cache.listing(c, repository, r)
		if err != nil {
			return nil, err
		}
		for _, item := range listing.Items {
			name := item.Name()
			if got[name] == i {
				got[name]++
			}
			if got[name] == len(v.path) {
				t := selectedTag{repository: repository, name: item.Tag, digest: item.Digest, seq: item.Seq}
				tags = append(tags, t)
			}
		}
	}
	scope, err := v.scopeSeqs(c, entry, after)
	for i := range tags {
		tags[i].scopeSeq = scope.of(tags[i].name)
	}
	return tags, err
}

// scopeSeqs are the numbers of the last changes to a repository that may have added old items to a
// descendant's selection.
type scopeSeqs struct {
	tag      int64 // any tag
	attached int64 // an attached tag, such as a signature
	relist   int64 // a manifest without a tag
}

// of returns the number for a tag; "" is a manifest without a tag.
func (s scopeSeqs) of(tag string) int64 {
	_, attached := subscription.AttachedTo(tag)
	switch {
	case tag == "":
		return max(s.tag, s.relist)
	case attached:
		return max(s.tag, s.attached)
	}
	return s.tag
}

// scopeSeqs returns the numbers of the last changes to a repository that may have added old items to
// the descendant's selection. Those that are not after the sequence number after may be too low. A
// filter without keep-last selects a tag by its name alone, so that no other change adds it. With
// keep-last, the removal of a newer tag does. With any filter, an attached tag is added together with
// its manifest.
func (v descendant) scopeSeqs(c *storage.View, entry storage.FeedEntry, after int64) (s scopeSeqs, err error) {
	s.relist = entry.RelistSeq
	for _, r := range v.path {
		if !r.filter.Tags.All() {
			s.attached = entry.Seq
		}
		if r.filter.Tags.KeepLast() == 0 {
			continue
		}
		removed, err := c.Removed(entry.Repository, after)
		if err != nil {
			return s, err
		}
		s.tag = max(s.tag, entry.RelistSeq)
		for _, gone := range removed {
			if oci.CheckTag(gone.Item) == nil && r.filter.Tags.Matches(gone.Item) {
				s.tag = max(s.tag, gone.Seq)
			}
		}
	}
	return s, nil
}
