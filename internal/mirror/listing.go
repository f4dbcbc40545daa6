package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
)

// An emptySourceError says that the source lists no usable tag. That is more
// often an outage or a wrong filter than a deletion, so nothing is removed.
type emptySourceError string

// Error implements error.
func (e emptySourceError) Error() string { return string(e) }

const (
	errNoTag      = emptySourceError("the source has no tag at all; nothing was removed")
	errNoMatch    = emptySourceError("no tag of the source matches; nothing was removed")
	errNoManifest = emptySourceError("the source lists tags, and has the manifest of none; nothing was removed")
)

// A listing is what a run's source has of what the rule selects. The source is
// asked about each tag once, so a listing that fails halfway continues where it
// was.
type listing struct {
	*run
	source   *source
	part     string                     // of an index that the rule keeps; "" is all of it
	selected []string                   // tags that the rule's filters select
	attached map[digest.Digest][]string // other tags, such as sha256-<hex>.sig, by the manifest that they are of

	mu       sync.Mutex               // guards what follows while the source is asked
	resolved map[string]digest.Digest // by tag; "" if it was deleted meanwhile
	broken   map[string]bool          // tags that are listed without a manifest
	failed   map[string]error         // tags of which the source did not say what they are
	outage   bool                     // many of these failed in a row
}

// maxVain is how many answers in a row that may be temporary make an outage of
// the source more likely than that these tags are at fault.
const maxVain = 20

// list reads the names of the source's tags.
func (r *run) list(ctx context.Context, src *source, filters subscription.Tags) (*listing, error) {
	listed, err := src.registry.Tags(ctx, src.repository)
	if errors.Is(err, oci.ErrNameUnknown) {
		return nil, src.noRepository()
	}
	if err != nil {
		return nil, err
	}
	if len(listed.Invalid) > 0 {
		src.warnings.add(InvalidTags, fmt.Sprintf(
			"the source lists names that are no tags, such as %q; they are left out", listed.Invalid[0]))
	}
	l := &listing{
		run: r, source: src, part: partOf(r.spec), attached: map[digest.Digest][]string{},
		resolved: map[string]digest.Digest{}, broken: map[string]bool{}, failed: map[string]error{},
	}
	for _, tag := range listed.Tags {
		subject, attached := subscription.Subject(tag)
		switch {
		case filters.All() || !attached && filters.Matches(tag):
			l.selected = append(l.selected, tag)
		case attached:
			l.attached[subject] = append(l.attached[subject], tag)
		}
	}
	switch {
	case len(listed.Tags) == 0:
		return nil, errNoTag
	case len(l.selected) == 0:
		return nil, errNoMatch
	}
	return l, nil
}

// An itemSet is a set of items of the rule's repository.
type itemSet map[replication.ListedItem]bool

// sorted returns the items by name.
func (s itemSet) sorted() []replication.ListedItem {
	return slices.SortedFunc(maps.Keys(s), func(a, b replication.ListedItem) int {
		return cmp.Compare(a.Name(), b.Name())
	})
}

// items returns what the rule selects: the tags that its filters select, and the
// attached tags and referrers of the manifests here that those tags lead to.
// Manifests of [listing.kept] count like these. A signature mostly comes later
// than the image that it signs, and moves no tag.
func (l *listing) items(ctx context.Context) (itemSet, error) {
	recorded, err := l.recorded(ctx)
	if err != nil {
		return nil, err
	}
	items := itemSet{}
	level, err := l.addTags(ctx, items, l.selected, recorded)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(l.selected, func(tag string) bool { return l.resolved[tag] != "" }) {
		return nil, l.noneResolved()
	}
	kept, err := l.kept(ctx, recorded)
	if err != nil {
		return nil, err
	}
	level = append(level, kept...)
	here := map[digest.Digest]bool{}
	for range maxReferrers {
		fresh, err := l.expand(ctx, level, here)
		if err != nil {
			return nil, err
		}
		var tags []string
		for _, d := range fresh {
			tags = append(tags, l.attached[d]...)
		}
		if level, err = l.addTags(ctx, items, tags, recorded); err != nil {
			return nil, err
		}
		subjects := slices.DeleteFunc(fresh, func(d digest.Digest) bool { return !here[d] })
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

// noneResolved says why the source has none of the tags that it lists. All of them
// are asked about again then.
func (l *listing) noneResolved() error {
	if len(l.failed) == 0 {
		return errNoManifest
	}
	err := l.failed[slices.Min(slices.Collect(maps.Keys(l.failed)))]
	clear(l.failed)
	return err
}

// recorded returns the digests of the items that the last listing had, by name.
func (l *listing) recorded(ctx context.Context) (map[string]digest.Digest, error) {
	rows, err := metadb.Read(ctx, l.DB, func(tx *metadb.Tx) ([]metadb.SyncItem, error) {
		return tx.ListedSyncItems(SourceName(l.rule.Name), l.spec.Repository, "", "")
	})
	recorded := map[string]digest.Digest{}
	for _, row := range rows {
		recorded[row.Item] = digest.Digest(row.Digest)
	}
	return recorded, err
}

// kept returns the manifests here that had attached tags or referrers in the last
// listing. If another tag or a lock keeps one, it keeps its signatures.
func (l *listing) kept(ctx context.Context, recorded map[string]digest.Digest) (all []digest.Digest, _ error) {
	for name, d := range recorded {
		subject, attached := subscription.Subject(name)
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

// addTags adds tags to items, and returns their digests. A tag that is listed
// without a manifest, or that failed, stays as it is recorded.
func (l *listing) addTags(
	ctx context.Context, items itemSet, tags []string, recorded map[string]digest.Digest,
) (all []digest.Digest, _ error) {
	if err := l.resolve(ctx, tags); err != nil {
		return nil, err
	}
	for _, tag := range tags {
		d := l.resolved[tag]
		if l.broken[tag] || l.failed[tag] != nil {
			d = recorded[tag]
		}
		if d != "" {
			items[replication.ListedItem{Tag: tag, Digest: d, Part: l.part}] = true
			all = append(all, d)
		}
	}
	return all, nil
}

// resolve asks the source for the digests of tags. If some have none, it reads
// the names once more: a tag that is not listed any more was deleted meanwhile,
// and one that is has lost its manifest. A tag of which the source does not say
// what it is fails alone.
func (l *listing) resolve(ctx context.Context, tags []string) error {
	missing, err := l.look(ctx, tags, maxVain)
	if err == nil && l.outage {
		l.outage = false // and what failed because of it is asked once more
		maps.DeleteFunc(l.failed, func(_ string, err error) bool { return !retry.Permanent(err) })
		var more []string
		more, err = l.look(ctx, tags, len(tags)+1)
		missing = append(missing, more...)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	listed, err := l.source.registry.Tags(ctx, l.source.repository)
	if err != nil {
		return err
	}
	slices.Sort(listed.Tags)
	for _, tag := range missing {
		l.resolved[tag] = ""
		if _, found := slices.BinarySearch(listed.Tags, tag); found {
			l.broken[tag] = true
		}
	}
	return nil
}

// look asks the source for the digests of tags, unless it has answered for them
// already, and returns the tags that have none. The error is that of the source
// as a whole, or of the last of limit tags in a row: then it has an outage, more
// likely.
func (l *listing) look(ctx context.Context, tags []string, limit int) (missing []string, _ error) {
	unknown := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		_, ok := l.resolved[tag]
		return ok || l.failed[tag] != nil
	})
	vain := 0
	err := each(ctx, unknown, func(ctx context.Context, tag string) error {
		d, err := l.source.digest(ctx, tag)
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case err != nil && !concernsOne(err):
			return err
		case err != nil:
			l.failed[tag] = err
			if vain++; vain >= limit && !retry.Permanent(err) {
				l.outage = true
				return err
			}
			return nil
		case d == "":
			missing = append(missing, tag)
		default:
			l.resolved[tag] = d
		}
		vain = 0
		return nil
	})
	return missing, err
}

// expand adds to here the roots and the manifests below them, with whether each
// is here. It returns those that are new.
func (l *listing) expand(
	ctx context.Context, roots []digest.Digest, here map[digest.Digest]bool,
) (fresh []digest.Digest, err error) {
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if _, known := here[d]; known {
			continue
		}
		fresh = append(fresh, d)
		if here[d], err = l.Storage.HasManifest(ctx, l.spec.Repository, d); err != nil {
			return nil, err
		}
		if !here[d] {
			continue
		}
		children, err := l.Storage.Held(ctx, l.spec.Repository, d)
		if err != nil {
			return nil, err
		}
		queue = append(queue, children...)
	}
	return fresh, nil
}

// referrers returns the manifests that have one of subjects as their subject. Of
// a subject whose referrers the source does not list, they are those that are
// recorded and here: the tags that stand in for the list come along as attached
// tags.
func (l *listing) referrers(
	ctx context.Context, subjects []digest.Digest, recorded map[string]digest.Digest,
) (all []digest.Digest, _ error) {
	ask := func(ctx context.Context, d digest.Digest) error {
		if l.source.unlisted.Load() {
			return nil
		}
		_, err := l.source.referrers(ctx, d)
		return err
	}
	alone := min(1, len(subjects)) // the source may not list any
	for _, part := range [][]digest.Digest{subjects[:alone], subjects[alone:]} {
		if err := each(ctx, part, ask); err != nil {
			return nil, err
		}
	}
	for _, d := range subjects {
		if answer := l.source.answered(d); answer.Listed {
			all = append(all, answer.Digests...)
			continue
		}
		found, err := l.Storage.Referrers(ctx, l.spec.Repository, d, "")
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			if recorded[string(m.Digest)] != "" {
				all = append(all, m.Digest)
			}
		}
	}
	return all, nil
}

// whole returns an error if the source lists tags that it does not have, or of
// which it does not say what they are.
func (l *listing) whole() error {
	var problems []string
	if n := len(l.broken); n > 0 {
		problems = append(problems, fmt.Sprintf("the source has no manifest for %d of the tags that it lists, as %s",
			n, slices.Min(slices.Collect(maps.Keys(l.broken)))))
	}
	temporary := false
	for _, err := range l.failed {
		temporary = temporary || !retry.Permanent(err)
	}
	if n := len(l.failed); n > 0 {
		first := slices.Min(slices.Collect(maps.Keys(l.failed)))
		problems = append(problems, fmt.Sprintf("the source does not say what %d of its tags are: %s", n, l.failed[first]))
	}
	if len(problems) == 0 {
		return nil
	}
	return partialError{strings.Join(problems, "; ") + "; what is here of them stays", temporary}
}

// A partialError says which tags of a source are of no use. The others came.
type partialError struct {
	text      string
	temporary bool
}

// Error implements error.
func (e partialError) Error() string { return e.text }

// Permanent reports whether another try is useless; see package retry.
func (e partialError) Permanent() bool { return !e.temporary }
