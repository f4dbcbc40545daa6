package mirror

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
)

// An itemSet is a set of items of the rule's repository.
type itemSet map[replication.ListedItem]bool

// sorted returns the items by name.
func (s itemSet) sorted() []replication.ListedItem {
	return slices.SortedFunc(maps.Keys(s), func(a, b replication.ListedItem) int {
		return cmp.Compare(a.Name(), b.Name())
	})
}

// items returns the items that the rule selects: the tags that match its filters, and
// the attached tags and referrers of all manifests below these tags that are here. Lost
// items are included until the loss is confirmed.
func (l *listing) items(ctx context.Context) (itemSet, error) {
	recorded, err := l.recorded(ctx)
	if err != nil {
		return nil, err
	}
	if l.count == 0 { // later, recorded also has the items of this listing
		l.count = len(recorded)
	}
	if l.lost, err = l.lostTags(ctx, recorded); err != nil {
		return nil, err
	}
	if err := l.checkNotEmpty(); err != nil {
		return nil, err
	}
	l.kept = nil
	for {
		items, err := l.findItems(ctx, recorded) // adds lost referrers to l.lost
		if err != nil {
			return nil, err
		}
		kept := l.suspectedLoss().keep(l.lost, l.count, time.Now())
		if maps.Equal(kept, l.kept) {
			return items, nil
		}
		l.kept = kept // their attached tags and referrers may be lost, too
	}
}

// lostTags returns the tags that were in the last listing, match the filters, and no
// longer exist at the source. It leaves out attached tags: they are lost only if the
// manifests that they belong to are not, which [listing.findItems] finds out.
//
// A tag that the source has and only does not list any more is not lost, because
// registries can hide tags from their lists. From now on it counts as listed.
func (l *listing) lostTags(
	ctx context.Context, recorded map[string]digest.Digest,
) (map[string]bool, error) {
	var unlisted []string
	for name, d := range recorded {
		_, attached := subscription.AttachedTo(name)
		if name != string(d) && !l.listed[name] && (attached || l.filters.Matches(name)) {
			unlisted = append(unlisted, name)
		}
	}
	if err := l.resolve(ctx, unlisted); err != nil {
		return nil, err
	}
	lost := map[string]bool{}
	for _, name := range unlisted {
		subject, attached := subscription.AttachedTo(name)
		if retry.Permanent(l.failed[name]) { // some registries answer 401 or 403 for a missing tag
			delete(l.failed, name)
		}
		switch has := l.resolved[name] != "" || l.failed[name] != nil; {
		case has && attached && !l.filters.All():
			l.listed[name], l.attached[subject] = true, append(l.attached[subject], name)
		case has:
			l.listed[name], l.selected = true, append(l.selected, name)
		case !attached:
			lost[name] = true
		}
	}
	return lost, nil
}

// findItems returns the items of the source and those of [listing.kept]. It looks for
// attached tags and referrers of the manifests that tags name, and of those that had
// some before ([listing.signed]), which no tag may name any more.
func (l *listing) findItems(ctx context.Context, recorded map[string]digest.Digest) (itemSet, error) {
	items := itemSet{}
	level, err := l.addTags(ctx, items, l.selected, recorded)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(l.selected, func(tag string) bool { return l.resolved[tag] != "" }) {
		return nil, l.noneResolved()
	}
	lostAttached := map[digest.Digest][]string{}
	for name, d := range recorded {
		switch subject, attached := subscription.AttachedTo(name); {
		case name == string(d) || l.listed[name]:
		case attached:
			lostAttached[subject] = append(lostAttached[subject], name)
		case l.kept[name]:
			level = append(level, l.addKept(items, name, d))
		}
	}
	signed, err := l.signed(ctx, recorded)
	if err != nil {
		return nil, err
	}
	level = append(level, signed...)
	here := map[digest.Digest]bool{}
	for range maxReferrers {
		added, err := l.expand(ctx, level, here)
		if err != nil {
			return nil, err
		}
		var tags, kept []string
		for _, d := range added {
			tags = append(tags, l.attached[d]...)
			for _, tag := range lostAttached[d] {
				if l.lost[tag] = true; l.kept[tag] {
					kept = append(kept, tag)
				}
			}
		}
		if level, err = l.addTags(ctx, items, tags, recorded); err != nil {
			return nil, err
		}
		for _, tag := range kept {
			level = append(level, l.addKept(items, tag, recorded[tag]))
		}
		subjects := slices.DeleteFunc(added, func(d digest.Digest) bool { return !here[d] })
		referrers, err := l.referrers(ctx, subjects, recorded)
		if err != nil {
			return nil, err
		}
		for _, d := range referrers {
			items[replication.ListedItem{Digest: d, Part: l.part}] = true
		}
		level = append(level, referrers...)
	}
	return items, nil
}

// addKept adds a tag with its recorded digest, and returns the digest.
func (l *listing) addKept(items itemSet, tag string, d digest.Digest) digest.Digest {
	items[replication.ListedItem{Tag: tag, Digest: d, Part: l.part}] = true
	return d
}

// recorded returns the digests of the items in the last listing, by name.
func (l *listing) recorded(ctx context.Context) (map[string]digest.Digest, error) {
	rows, err := metadb.Read(ctx, l.DB, func(tx *metadb.Tx) ([]metadb.SyncItem, error) {
		return tx.SyncItemsInRange(SourceName(l.rule.Name), l.spec.Repository, "", "")
	})
	recorded := map[string]digest.Digest{}
	for _, row := range rows {
		if row.Digest != "" {
			recorded[row.Item] = digest.Digest(row.Digest)
		}
	}
	return recorded, err
}

// signed returns the manifests here that had attached tags or referrers in the last
// listing. A manifest that another tag or a lock keeps also keeps its signatures.
func (l *listing) signed(ctx context.Context, recorded map[string]digest.Digest) (all []digest.Digest, _ error) {
	for name, d := range recorded {
		subject, attached := subscription.AttachedTo(name)
		if !attached && name == string(d) {
			m, err := l.Storage.Manifest(ctx, l.spec.Repository, name)
			if e := oci.AsError(err); e != nil && e.Status < 500 {
				continue // it is not here
			}
			if err != nil {
				return nil, err
			}
			subject = m.Subject
		}
		if subject == "" {
			continue
		}
		has, err := l.Storage.HasManifest(ctx, l.spec.Repository, subject)
		if err != nil {
			return nil, err
		}
		if has {
			all = append(all, subject)
		}
	}
	return all, nil
}

// addTags adds tags to items, and returns their digests. If a tag is listed without a
// manifest, or could not be resolved, it keeps its recorded digest.
func (l *listing) addTags(
	ctx context.Context, items itemSet, tags []string, recorded map[string]digest.Digest,
) (all []digest.Digest, _ error) {
	if err := l.resolve(ctx, tags); err != nil {
		return nil, err
	}
	for _, tag := range tags {
		d := l.resolved[tag]
		if l.dangling[tag] || l.failed[tag] != nil {
			d = recorded[tag]
		}
		if d != "" {
			items[replication.ListedItem{Tag: tag, Digest: d, Part: l.part}] = true
			all = append(all, d)
		}
	}
	return all, nil
}

// expand adds the roots and the manifests below them to here, which says for each of
// them whether it is here. It returns those that it added.
func (l *listing) expand(
	ctx context.Context, roots []digest.Digest, here map[digest.Digest]bool,
) (added []digest.Digest, err error) {
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if _, known := here[d]; known {
			continue
		}
		added = append(added, d)
		if here[d], err = l.Storage.HasManifest(ctx, l.spec.Repository, d); err != nil {
			return nil, err
		}
		if !here[d] {
			continue
		}
		children, err := l.Storage.HeldChildren(ctx, l.spec.Repository, d)
		if err != nil {
			return nil, err
		}
		queue = append(queue, children...)
	}
	return added, nil
}

// referrers returns the referrers of subjects. If the source does not list the referrers
// of a subject, it returns the recorded ones that are here. In that case, the tag in
// which clients list referrers is an attached tag.
func (l *listing) referrers(
	ctx context.Context, subjects []digest.Digest, recorded map[string]digest.Digest,
) (all []digest.Digest, _ error) {
	ask := func(ctx context.Context, d digest.Digest) error {
		if l.source.noReferrers.Load() {
			return nil
		}
		_, err := l.source.referrers(ctx, d)
		return err
	}
	first := min(1, len(subjects)) // its answer may say that the source lists no referrers
	for _, part := range [][]digest.Digest{subjects[:first], subjects[first:]} {
		if err := forEach(ctx, part, ask); err != nil {
			return nil, err
		}
	}
	hasReferrers := false
	for name, d := range recorded {
		hasReferrers = hasReferrers || name == string(d)
	}
	for _, d := range subjects {
		answer := l.source.answer(d)
		if answer.Listed {
			all = append(all, answer.Digests...)
		}
		if !hasReferrers {
			continue
		}
		found, err := l.Storage.ReferrerDigests(ctx, l.spec.Repository, d)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			name := string(m)
			if recorded[name] == "" || slices.Contains(answer.Digests, m) {
				continue
			}
			if answer.Listed {
				l.lost[name] = true
			}
			if !answer.Listed || l.kept[name] {
				all = append(all, m)
			}
		}
	}
	return all, nil
}
