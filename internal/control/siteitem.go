package control

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"
	"strconv"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// siteItems returns a page of what a site is to have, or of what of it is not
// known to be in sync.
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
	for i, err := range a.itemsOf(ctx, v, at) {
		switch {
		case err != nil:
			return nil, err
		case at.Open && i.State == "InSync":
			continue
		case len(page.Body.Value) == n:
			last := page.Body.Value[n-1]
			page.Body.NextLink = root + "/connected-registries/" + url.PathEscape(v.row.Name) + "/sync-items?" + url.Values{
				"n": {strconv.Itoa(n)}, "repository": {last.Repository}, "item": {last.item}, "open": {strconv.FormatBool(at.Open)},
			}.Encode()
			return page, nil
		}
		page.Body.Value = append(page.Body.Value, i)
	}
	return page, nil
}

// itemsOf returns the items of a site behind a place: what it said is open,
// and the tags that it is to have, of which what it said counts.
func (a *api) itemsOf(ctx context.Context, v site, at syncPlace) iter.Seq2[SyncItem, error] {
	return func(yield func(SyncItem, error) bool) {
		said := v.said(at)
		for t, err := range a.siteTags(ctx, v, at) {
			if err != nil {
				yield(SyncItem{}, err)
				return
			}
			i := v.guess(t)
			for len(said) > 0 && inOrder(said[0], i) <= 0 {
				var next SyncItem
				if next, said = said[0], said[1:]; inOrder(next, i) == 0 {
					i = next.moved(i.ParentDigest)
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
func inOrder(a, b SyncItem) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.item, b.item))
}

// said returns what a site said is open, behind a place and in order.
func (v site) said(at syncPlace) (all []SyncItem) {
	for _, o := range v.heard.Status.Open {
		if i := openItemOf(o); inOrder(i, SyncItem{Repository: at.Repository, item: at.Item}) > 0 {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, inOrder)
	return all
}

func openItemOf(o wire.OpenItem) SyncItem {
	i := SyncItem{
		Repository: o.Repository, Tag: text(o.Tag), State: "Pending", Digest: text(string(o.Here)), ParentDigest: text(string(o.Digest)),
		LastMatchTime: moment(o.MatchedAt), Error: text(o.Error), item: cmp.Or(o.Tag, string(o.Digest)),
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

// moved returns an item that the site said is open, of a tag that names a
// digest now: when that is another one, the site has yet to try it.
func (i SyncItem) moved(now *string) SyncItem {
	if i.ParentDigest != nil && *i.ParentDigest == *now {
		return i
	}
	return SyncItem{Repository: i.Repository, Tag: i.Tag, State: "Pending", Digest: i.Digest, ParentDigest: now, LastMatchTime: i.LastMatchTime, item: i.item}
}

// guess returns a tag of which the site said nothing: it has it, unless it
// did not know of it, or that it is for it, has counted nothing yet, or has more
// open than it said. Of a site that is below another, more may be here than there.
func (v site) guess(t repositoryTag) SyncItem {
	i := SyncItem{Repository: t.repository, Tag: text(t.Name), State: "Pending", ParentDigest: text(string(t.Digest)), item: t.Name}
	st := v.heard.Status
	switch open := st.ItemsPending + st.ItemsFailed; {
	case st.ItemsSynced+open == 0, t.Seq > v.above, t.fresh:
	case t.Seq > v.heard.Cursor, open > len(st.Open), v.vague:
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
	fresh bool // the site, or one above it, was not known to be told that it is for it
}

// pageOf is how many rows are read at a time.
const pageOf = 500

// siteTags returns the tags behind a place that a site is to have, by
// repository and name.
func (a *api) siteTags(ctx context.Context, v site, at syncPlace) iter.Seq2[repositoryTag, error] {
	return func(yield func(repositoryTag, error) bool) {
		if at.Repository != "" && v.mayRead(at.Repository) && !a.tagsOf(ctx, v, at, yield) {
			return
		}
		for {
			repositories, err := a.Repositories.Repositories(ctx, at.Repository, pageOf)
			if err != nil {
				yield(repositoryTag{}, err)
			}
			if err != nil || len(repositories) == 0 {
				return
			}
			for _, r := range repositories {
				at.Repository = r.Name
				if v.mayRead(r.Name) && !a.tagsOf(ctx, v, syncPlace{Repository: r.Name}, yield) {
					return
				}
			}
		}
	}
}

// tagsOf hands on the tags of one repository that a site is to have, and
// reports whether more are wanted.
func (a *api) tagsOf(ctx context.Context, v site, at syncPlace, yield func(repositoryTag, error) bool) bool {
	in, err := a.selects(ctx, v.reach, at.Repository)
	told := make([]func(tag string) bool, len(v.followed))
	for i := 0; i < len(told) && err == nil; i++ {
		told[i], err = a.selects(ctx, v.followed[i], at.Repository)
	}
	for err == nil {
		var tags []storage.Tag
		tags, err = a.Repositories.Tags(ctx, at.Repository, at.Item, pageOf)
		for _, t := range tags {
			at.Item = t.Name
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
func (a *api) selects(ctx context.Context, r reach, repository string) (in func(tag string) bool, err error) {
	n := r.scope.KeepLast()
	switch {
	case !r.mayRead(repository):
		return func(string) bool { return false }, nil
	case n == 0:
		return r.scope.Matches, nil
	}
	tags, err := gateway.Newest(ctx, a.Repositories, repository, r.scope, n)
	kept := map[string]bool{}
	for _, t := range tags {
		kept[t.Name] = true
	}
	return func(tag string) bool { return kept[tag] }, err
}
