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

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/subscription"
)

// An emptySourceError says that the source has no usable tag. In most cases that is an
// outage or a wrong filter, and not a deletion, so nothing is removed.
type emptySourceError string

// Error implements error.
func (e emptySourceError) Error() string { return string(e) }

const (
	errNoTag      = emptySourceError("the source has no tags at all; nothing was removed")
	errNoMatch    = emptySourceError("no tag of the source matches the filters; nothing was removed")
	errNoManifest = emptySourceError("the source lists tags, but has no manifest for any of them; nothing was removed")
)

// A listing has the items that the rule selects, as the source has them. Each tag is
// resolved once, so a listing that fails halfway continues at the same tag.
type listing struct {
	*run
	source   *source
	filters  subscription.Tags
	part     string                     // of an index that the rule keeps; "" is the whole index
	listed   map[string]bool            // all tags of the source
	selected []string                   // the tags that match the rule's filters
	attached map[digest.Digest][]string // other tags such as sha256-<hex>.sig, by the manifest that they belong to

	count int             // number of items in the last listing
	lost  map[string]bool // the items of the last listing that the source does not have any more
	kept  map[string]bool // the lost items that stay until the loss is confirmed

	mu       sync.Mutex               // guards the fields below during lookUp
	resolved map[string]digest.Digest // by tag; "" if the tag does not exist
	dangling map[string]bool          // listed tags without a manifest
	failed   map[string]error         // why tags could not be resolved
	outage   bool                     // many tags failed in a row
}

// maxFailedTags is how many temporary failures in a row count as an outage of the source
// and not as failures of these tags.
const maxFailedTags = 20

func (r *run) newListing(src *source, filters subscription.Tags) *listing {
	return &listing{
		run: r, source: src, filters: filters, part: partOf(r.spec),
		resolved: map[string]digest.Digest{}, dangling: map[string]bool{}, failed: map[string]error{},
	}
}

// readAndSelectTags reads the list of the source's tags, and applies the rule's filters. It can
// be called again.
func (l *listing) readAndSelectTags(ctx context.Context) error {
	tags, err := l.source.registry.Tags(ctx, l.source.repository)
	if errors.Is(err, oci.ErrNameUnknown) {
		return l.source.noRepository()
	}
	if err != nil {
		return err
	}
	if len(tags.Invalid) > 0 {
		l.source.warnings.add(InvalidTags, fmt.Sprintf(
			"the source lists names that are not valid tags, such as %q; they are ignored", tags.Invalid[0]))
	}
	l.source.forgetReferrers()
	clear(l.failed)
	clear(l.dangling)
	maps.DeleteFunc(l.resolved, func(_ string, d digest.Digest) bool { return d == "" })
	l.listed, l.selected, l.attached, l.count = map[string]bool{}, nil, map[digest.Digest][]string{}, 0
	for _, tag := range tags.Tags {
		l.listed[tag] = true
		subject, attached := subscription.AttachedTo(tag)
		switch {
		case l.filters.All() || !attached && l.filters.Matches(tag):
			l.selected = append(l.selected, tag)
		case attached:
			l.attached[subject] = append(l.attached[subject], tag)
		}
	}
	return nil
}

// checkNotEmpty returns an error if the source has no tag that the rule selects.
func (l *listing) checkNotEmpty() error {
	switch {
	case len(l.listed) == 0:
		return errNoTag
	case len(l.selected) == 0:
		return errNoMatch
	}
	return nil
}

// noneResolved returns the reason why no listed tag could be resolved. The next
// [listing.resolve] tries all of them again.
func (l *listing) noneResolved() error {
	if len(l.failed) == 0 {
		return errNoManifest
	}
	err := l.failed[slices.Min(slices.Collect(maps.Keys(l.failed)))]
	clear(l.failed)
	return err
}

// resolve resolves tags to digests. If the source has no manifest for some, it reads the
// list of tags again: a tag that is still listed is dangling, any other was deleted in the
// meantime. A tag that cannot be resolved fails alone.
func (l *listing) resolve(ctx context.Context, tags []string) error {
	missing, err := l.lookUp(ctx, tags, maxFailedTags)
	if err == nil && l.outage {
		l.outage = false // it is over: retry the tags that failed because of it
		maps.DeleteFunc(l.failed, func(_ string, err error) bool { return !retry.Permanent(err) })
		var more []string
		more, err = l.lookUp(ctx, tags, len(tags)+1)
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
			l.dangling[tag] = true
		}
	}
	return nil
}

// lookUp resolves the tags that are not resolved yet, and returns the tags without a
// manifest at the source. It ends with an error if the source as a whole fails, or if
// limit tags fail in a row, which is probably an outage.
func (l *listing) lookUp(ctx context.Context, tags []string, limit int) (missing []string, _ error) {
	unknown := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		_, ok := l.resolved[tag]
		return ok || l.failed[tag] != nil
	})
	failures := 0
	err := forEach(ctx, unknown, func(ctx context.Context, tag string) error {
		var d digest.Digest
		skip, err := false, error(nil)
		_, attached := subscription.AttachedTo(tag)
		if attached {
			d, skip, err = l.source.attachedDigest(ctx, tag)
		} else {
			d, err = l.source.digest(ctx, tag)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case err != nil && !isItemError(err) && !skip:
			return err
		case err != nil && attached:
			l.failed[tag] = err
			return nil // this says nothing about other tags
		case err != nil:
			l.failed[tag] = err
			if failures++; failures >= limit && !retry.Permanent(err) {
				l.outage = true
				return err
			}
			return nil
		case d == "":
			missing = append(missing, tag)
		default:
			l.resolved[tag] = d
		}
		failures = 0
		return nil
	})
	return missing, err
}

// err returns an error if some tags are dangling or could not be resolved. Attached tags
// are only a warning.
func (l *listing) err() error {
	var problems []string
	if n := len(l.dangling); n > 0 {
		problems = append(problems,
			fmt.Sprintf("the source has no manifest for %d of the tags that it lists, such as %s",
				n, slices.Min(slices.Collect(maps.Keys(l.dangling)))))
	}
	temporary, n := false, 0
	var first error
	for _, tag := range slices.Sorted(maps.Keys(l.failed)) {
		err := l.failed[tag]
		if isOptionalItem(tag) {
			l.source.warnings.add(ReferrersUnavailable, err.Error()+"; it stays here as it was")
			continue
		}
		n++
		first = cmp.Or(first, err)
		temporary = temporary || !retry.Permanent(err)
	}
	if n > 0 {
		problems = append(problems, fmt.Sprintf("%d tags of the source could not be resolved: %s", n, first))
	}
	if len(problems) == 0 {
		return nil
	}
	return partialError{strings.Join(problems, "; ") + "; they stay here as they were", temporary}
}

// A partialError says which tags of a source are unusable. All others were synced.
type partialError struct {
	text      string
	temporary bool
}

// Error implements error.
func (e partialError) Error() string { return e.text }

// Permanent reports whether a retry is useless; see package retry.
func (e partialError) Permanent() bool { return !e.temporary }
