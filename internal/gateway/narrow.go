package gateway

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/scope"
	"ferry/internal/storage"
)

// narrowed returns changes as far as they are in the caller's scope, with
// what they brought into it or pushed out of it elsewhere. behind is how many
// changes there are, at most, that the caller does not know.
func (s *server) narrowed(ctx context.Context, c caller, changes []Change, behind int) ([]Change, error) {
	sc, platforms, err := s.scopeOf(ctx, c)
	if err != nil || sc.All() && platforms.All() {
		return changes, err
	}
	n := narrowing{server: s, scope: sc, platforms: platforms, behind: behind, seen: map[[2]string]bool{}, repositories: map[string]*selection{}}
	for _, ch := range changes {
		n.seen[[2]string{ch.Repository, ch.Tag}] = true
	}
	for _, ch := range changes {
		if err := n.add(ctx, ch); err != nil {
			return nil, err
		}
	}
	return n.all, nil
}

// A narrowing is what becomes of a list of changes.
type narrowing struct {
	*server
	scope        scope.Scope
	platforms    scope.Platforms
	behind       int
	seen         map[[2]string]bool // repository and tag that have a change
	repositories map[string]*selection
	all          []Change
}

func (n *narrowing) add(ctx context.Context, ch Change) error {
	x := n.repositories[ch.Repository]
	if x == nil {
		var err error
		if x, err = n.selects(ctx, n.scope, n.platforms, ch.Repository, n.behind); err != nil {
			return err
		}
		n.repositories[ch.Repository] = x
		n.displace(x)
	}
	switch storage.ChangeKind(ch.Kind) {
	case storage.TagSet:
		in, err := x.has(ctx, ch.Tag)
		if err != nil {
			return err
		}
		if in {
			if n.all = append(n.all, ch); n.scope.All() {
				return nil // its signatures come by themselves
			}
			return n.companions(ctx, x, ch.Digest)
		}
		if x.kept != nil && n.scope.Matches(ch.Tag) { // newer ones came since
			n.all = append(n.all, removal(ch.Repository, ch.Tag))
		}
	case storage.TagRemoved:
		if _, companion := scope.Subject(ch.Tag); companion || n.scope.Matches(ch.Tag) {
			n.all = append(n.all, ch)
		}
	case storage.ManifestAdded: // without a tag, unless for what it refers to
		in, err := x.refers(ctx, ch.Digest)
		if err != nil {
			return err
		}
		if in {
			n.all = append(n.all, ch)
		}
	case storage.IndexChanged: // which is for who has it
		n.all = append(n.all, ch)
	case storage.ManifestRemoved: // it may have been there when the scope was wider
		n.all = append(n.all, ch)
	}
	return nil
}

// displace adds what came into scope because newer tags went, and what newer
// tags pushed out of it: no more of either than there were changes.
func (n *narrowing) displace(x *selection) {
	if x.kept == nil {
		return
	}
	for i, t := range x.newest {
		key := [2]string{x.repository, t.Name}
		if n.seen[key] || i < n.scope.KeepLast()-n.behind {
			continue
		}
		n.seen[key] = true
		if x.kept[t.Name] {
			n.all = append(n.all, Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: t.Name, Digest: t.Digest})
		} else {
			n.all = append(n.all, removal(x.repository, t.Name))
		}
	}
}

// companions adds the signatures of a manifest that came into scope.
func (n *narrowing) companions(ctx context.Context, x *selection, d digest.Digest) error {
	for _, name := range scope.Companions(d) {
		key := [2]string{x.repository, name}
		if n.seen[key] {
			continue
		}
		t, err := n.storage.Tag(ctx, x.repository, name)
		if errors.Is(err, oci.ErrManifestUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		n.seen[key] = true
		n.all = append(n.all, Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: name, Digest: t.Digest})
	}
	return nil
}

func removal(repository, tag string) Change {
	return Change{Kind: string(storage.TagRemoved), Repository: repository, Tag: tag}
}
