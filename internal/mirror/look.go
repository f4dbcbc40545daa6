package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/replication"
	"ferry/internal/subscription"
)

// A hollow error says that a source which is to be followed has nothing where
// something was, or has not what it lists. That more often is a fault of its,
// or of a filter, than its operator's wish, so nothing is removed for it.
type hollow string

// Error implements error.
func (e hollow) Error() string { return string(e) }

const (
	errEmptied    = hollow("the source has no tag at all; nothing was removed")
	errUnmatched  = hollow("no tag of the source matches; nothing was removed")
	errUnresolved = hollow("the source lists tags, and has the manifest of none; nothing was removed")
)

// A listing is the tags of a source as they are at one time. Looking at them
// can be broken off and goes on where it was.
type listing struct {
	*source
	to   string // the repository here
	tags []string
	in   subscription.Tags
	lost []string // tags that are listed without a manifest

	referrers map[digest.Digest]bool // manifests that have something of this for their subject

	mu      sync.Mutex
	looked  map[string]bool
	found   []replication.ListedItem
	doubted []string // tags that were listed and led to nothing; see confirm
}

// list reads the names of the source's tags, for the repository to.
func (s *source) list(ctx context.Context, to string, in subscription.Tags) (*listing, error) {
	tags, err := s.registry.Tags(ctx, s.repository)
	if errors.Is(err, oci.ErrNameUnknown) {
		return nil, s.noRepository()
	}
	if err != nil {
		return nil, err
	}
	l := &listing{source: s, to: to, tags: tags, in: in, looked: map[string]bool{}}
	switch {
	case len(tags) == 0:
		return nil, errEmptied
	case !slices.ContainsFunc(tags, l.matches):
		return nil, errUnmatched
	}
	return l, nil
}

// matches reports whether the tag is selected by its own name.
func (l *listing) matches(tag string) bool {
	_, companion := subscription.Subject(tag)
	return l.in.All() || !companion && l.in.Matches(tag)
}

// look finds the selected tags, with their digests. No manifest moves for it.
func (l *listing) look(ctx context.Context) error {
	if err := l.resolve(ctx, l.matches); err != nil {
		return err
	}
	if len(l.found) == 0 {
		return errUnresolved
	}
	return nil
}

// confirm asks for the names of the tags once more, where some led to nothing.
// One that is not listed any more went meanwhile. One that is has lost its
// manifest: what known says that it was here stays.
func (l *listing) confirm(ctx context.Context, known func(tag string) (digest.Digest, error)) error {
	if len(l.doubted) == 0 {
		return nil
	}
	tags, err := l.registry.Tags(ctx, l.repository)
	if err != nil {
		return err
	}
	slices.Sort(tags)
	for len(l.doubted) > 0 {
		tag := l.doubted[0]
		if _, listed := slices.BinarySearch(tags, tag); listed {
			d, err := known(tag)
			if err != nil {
				return err
			}
			l.lost = append(l.lost, tag)
			if d != "" {
				l.found = append(l.found, replication.ListedItem{Tag: tag, Digest: d})
			}
		}
		l.doubted = l.doubted[1:]
	}
	return nil
}

// whole returns an error where the source has not all that it lists.
func (l *listing) whole() error {
	if len(l.lost) == 0 {
		return nil
	}
	return hollow(fmt.Sprintf("the source has no manifest for %d of the tags that it lists, as %s; what is here of them stays", len(l.lost), slices.Min(l.lost)))
}

// companions finds the tags, such as sha256-<hex>.sig, that belong to
// manifests for which has is true.
func (l *listing) companions(ctx context.Context, has func(digest.Digest) bool) error {
	found := l.digests()
	return l.resolve(ctx, func(tag string) bool {
		subject, ok := subscription.Subject(tag)
		return ok && (found[subject] || has(subject))
	})
}

// forget drops the companions of manifests for which has is false.
func (l *listing) forget(has func(digest.Digest) bool) {
	if l.in.All() {
		return
	}
	found := l.digests()
	l.found = slices.DeleteFunc(l.found, func(item replication.ListedItem) bool {
		subject, ok := subscription.Subject(item.Tag)
		return ok && !found[subject] && !has(subject)
	})
}

func (l *listing) digests() map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	for _, item := range l.found {
		found[item.Digest] = true
	}
	return found
}

// resolve adds those tags to what was found that are wanted and that nobody
// looked at yet.
func (l *listing) resolve(ctx context.Context, wanted func(tag string) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(planners)
	for _, tag := range l.tags {
		if ctx.Err() != nil {
			break
		}
		l.mu.Lock()
		looked := l.looked[tag]
		l.mu.Unlock()
		if looked || !wanted(tag) {
			continue
		}
		g.Go(func() error {
			d, err := l.digest(ctx, tag)
			if err != nil {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.looked[tag] = true
			if d == "" {
				l.doubted = append(l.doubted, tag)
				return nil
			}
			l.found = append(l.found, replication.ListedItem{Tag: tag, Digest: d})
			return nil
		})
	}
	return g.Wait()
}

// digest returns what reference leads to at the source; "" is nothing.
func (s *source) digest(ctx context.Context, reference string) (digest.Digest, error) {
	d, err := s.registry.Resolve(ctx, s.repository, reference)
	if err == nil && d == "" { // a registry that does not say: read it
		var m *remote.Manifest
		if m, err = s.registry.Manifest(ctx, s.repository, reference); err == nil {
			d = m.Digest
		}
	}
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", reference, err)
	}
	return d, nil
}
