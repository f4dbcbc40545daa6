package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
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
	filters  subscription.Tags
	part     string                     // of an index that the rule keeps; "" is all of it
	listed   map[string]bool            // the source's tags
	selected []string                   // those that the rule's filters select
	attached map[digest.Digest][]string // others, such as sha256-<hex>.sig, by the manifest that they are of

	count int             // of the items that the last listing had
	lost  map[string]bool // those of them that the source does not list any more
	kept  map[string]bool // those of these that stay, because it is in doubt

	mu       sync.Mutex               // guards what follows while the source is asked
	resolved map[string]digest.Digest // by tag; "" if it was deleted meanwhile
	broken   map[string]bool          // tags that are listed without a manifest
	failed   map[string]error         // tags of which the source did not say what they are
	outage   bool                     // many of these failed in a row
}

// maxVain is how many answers in a row that may be temporary make an outage of
// the source more likely than that these tags are at fault.
const maxVain = 20

func (r *run) newListing(src *source, filters subscription.Tags) *listing {
	return &listing{
		run: r, source: src, filters: filters, part: partOf(r.spec),
		resolved: map[string]digest.Digest{}, broken: map[string]bool{}, failed: map[string]error{},
	}
}

// read reads the names of the source's tags, also anew.
func (l *listing) read(ctx context.Context) error {
	tags, err := l.source.registry.Tags(ctx, l.source.repository)
	if errors.Is(err, oci.ErrNameUnknown) {
		return l.source.noRepository()
	}
	if err != nil {
		return err
	}
	if len(tags.Invalid) > 0 {
		l.source.warnings.add(InvalidTags, fmt.Sprintf(
			"the source lists names that are no tags, such as %q; they are left out", tags.Invalid[0]))
	}
	l.source.forgetReferrers()
	clear(l.failed)
	clear(l.broken)
	maps.DeleteFunc(l.resolved, func(_ string, d digest.Digest) bool { return d == "" })
	l.listed, l.selected, l.attached, l.count = map[string]bool{}, nil, map[digest.Digest][]string{}, 0
	for _, tag := range tags.Tags {
		l.listed[tag] = true
		subject, attached := subscription.Subject(tag)
		switch {
		case l.filters.All() || !attached && l.filters.Matches(tag):
			l.selected = append(l.selected, tag)
		case attached:
			l.attached[subject] = append(l.attached[subject], tag)
		}
	}
	switch {
	case len(tags.Tags) == 0:
		return errNoTag
	case len(l.selected) == 0:
		return errNoMatch
	}
	return nil
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
		_, attached := subscription.Subject(tag)
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case err != nil && !concernsOne(err) && !(attached && l.source.canDoWithout(tag, err)):
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
		problems = append(problems,
			fmt.Sprintf("the source does not say what %d of its tags are: %s", n, l.failed[first]))
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
