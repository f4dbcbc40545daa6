package gateway

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/scope"
	"ferry/internal/storage"
)

// narrowed returns the visible ones of changes as far as they are in the
// caller's scope, with what they brought into it or pushed out of it elsewhere.
// behind is how many changes there are, at most, that the caller does not know.
func (s *server) narrowed(ctx context.Context, c caller, changes []storage.Change, visible []Change, behind int) ([]Change, error) {
	sc, platforms, err := s.scopeOf(ctx, c)
	if err != nil || sc.All() && platforms.All() {
		return visible, err
	}
	n := narrowing{server: s, scope: sc, platforms: platforms, behind: behind, seen: map[[2]string]bool{}, repositories: map[string]*touched{}}
	for _, ch := range visible {
		n.seen[[2]string{ch.Repository, ch.Tag}] = true
	}
	for _, ch := range visible {
		if err := n.add(ctx, ch); err != nil {
			return nil, err
		}
	}
	for _, ch := range changes {
		n.leave(ch)
	}
	for _, x := range n.order {
		if err := n.companions(ctx, x); err != nil {
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
	seen         map[[2]string]bool // repository and tag of which all is said
	repositories map[string]*touched
	order        []*touched
	all          []Change
}

// A touched repository has changes.
type touched struct {
	*selection
	moved []digest.Digest // what something leads to now that did not, or did until then
}

func (n *narrowing) touch(ctx context.Context, repository string) (*touched, error) {
	if x := n.repositories[repository]; x != nil {
		return x, nil
	}
	selection, err := n.selects(ctx, n.scope, n.platforms, repository, n.behind)
	if err != nil {
		return nil, err
	}
	x := &touched{selection: selection}
	n.repositories[repository], n.order = x, append(n.order, x)
	n.displace(x)
	return x, nil
}

func (n *narrowing) add(ctx context.Context, ch Change) error {
	x, err := n.touch(ctx, ch.Repository)
	if err != nil {
		return err
	}
	switch storage.ChangeKind(ch.Kind) {
	case storage.TagSet:
		in, err := x.has(ctx, ch.Tag)
		if err != nil {
			return err
		}
		if in {
			n.say(x, ch)
		} else if _, companion := x.subject(ch.Tag); companion { // what it signs may have left just now
			delete(n.seen, [2]string{ch.Repository, ch.Tag})
		} else if x.kept != nil && n.scope.Matches(ch.Tag) { // newer ones came since
			n.say(x, removal(ch.Repository, ch.Tag))
		}
	case storage.TagRemoved:
		if _, companion := scope.Subject(ch.Tag); companion || n.scope.Matches(ch.Tag) {
			n.say(x, ch)
		}
	case storage.ManifestAdded: // without a tag, unless for what it refers to
		in, err := x.refers(ctx, ch.Digest)
		if err != nil {
			return err
		}
		if in {
			n.say(x, ch)
		}
	case storage.IndexChanged: // which is for who has it
		n.say(x, ch)
	case storage.ManifestRemoved: // it may have been there when the scope was wider
		n.say(x, ch)
	}
	return nil
}

// say adds a change that the caller is told, and remembers whose companions
// it may take along.
func (n *narrowing) say(x *touched, ch Change) {
	n.all = append(n.all, ch)
	if ch.Digest != "" {
		x.moved = append(x.moved, ch.Digest)
	}
}

// leave remembers what a change may have taken out of scope. Each one counts,
// also where a later one is all that the caller is told of its tag.
func (n *narrowing) leave(ch storage.Change) {
	x := n.repositories[ch.Repository]
	if x == nil { // of which the caller sees nothing
		return
	}
	if _, companion := scope.Subject(ch.Tag); ch.Tag == "" || companion || n.scope.Matches(ch.Tag) {
		x.moved = append(x.moved, ch.Former...)
	}
}

// displace adds what came into scope because newer tags went, and what newer
// tags pushed out of it: no more of either than there were changes.
func (n *narrowing) displace(x *touched) {
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
			n.say(x, Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: t.Name, Digest: t.Digest})
		} else {
			n.say(x, removal(x.repository, t.Name))
			x.moved = append(x.moved, t.Digest)
		}
	}
}

// companions adds the signatures of what came into scope, and the removal of
// those of what left it: neither has a change of its own.
func (n *narrowing) companions(ctx context.Context, x *touched) error {
	if n.scope.All() {
		return nil // they come by themselves
	}
	all, err := x.companions(ctx, x.moved)
	if err != nil {
		return err
	}
	for _, t := range all {
		key := [2]string{x.repository, t.Name}
		if n.seen[key] {
			continue
		}
		n.seen[key] = true
		in, err := x.leads(ctx, t.subject)
		if err != nil {
			return err
		}
		if in {
			n.all = append(n.all, Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: t.Name, Digest: t.Digest})
		} else {
			n.all = append(n.all, removal(x.repository, t.Name))
		}
	}
	return nil
}

func removal(repository, tag string) Change {
	return Change{Kind: string(storage.TagRemoved), Repository: repository, Tag: tag}
}
