package gateway

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/subscription"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// Limits on what changes take along.
const (
	maxTold   = 10 * maxChanges // that has none of its own in the feed
	maxWalked = 5 * maxTold     // manifests that are looked at in search of it
)

// errTooMuch is that changes took along more than an answer may tell.
var errTooMuch = errors.New("the changes took too much along")

// narrowed returns those of changes that the caller may see and that are in its
// scope, with what they brought into it or pushed out of it elsewhere.
// behind is how many changes there are, at most, that the caller does not know.
// The error is [errTooMuch] where a snapshot tells it better.
func (s *server) narrowed(ctx context.Context, c caller, changes []storage.Change, behind int) ([]wire.Change, error) {
	sights := visible(c, changes)
	if len(sights) == 0 {
		return nil, nil
	}
	sc, platforms, err := s.scopeOf(ctx, c)
	if err != nil {
		return nil, err
	}
	n := narrowing{server: s, scope: sc, platforms: platforms, behind: behind, seen: map[[2]string]bool{}, repositories: map[string]*touched{}}
	for _, ch := range sights {
		if ch.Kind != storage.IndexChanged {
			n.seen[itemOf(ch.Repository, ch.Tag, ch.Digest)] = true
		}
	}
	for _, ch := range sights {
		if err := n.add(ctx, ch); err != nil {
			return nil, err
		}
	}
	for _, ch := range changes {
		n.leave(ch)
	}
	for _, x := range n.order {
		if err := n.belongings(ctx, x); err != nil {
			return nil, err
		}
	}
	return n.all, nil
}

// A narrowing is what becomes of a list of changes.
type narrowing struct {
	*server
	scope        subscription.Scope
	platforms    subscription.Platforms
	behind       int
	seen         map[[2]string]bool // tags and manifests of which all is said
	repositories map[string]*touched
	order        []*touched
	all          []wire.Change
	told, walked int // see maxTold and maxWalked
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

func (n *narrowing) add(ctx context.Context, seen sight) error {
	x, err := n.touch(ctx, seen.Repository)
	if err != nil {
		return err
	}
	ch := wire.Change{Kind: string(seen.Kind), Repository: seen.Repository, Tag: seen.Tag, Digest: seen.Digest}
	switch seen.Kind {
	case storage.TagSet:
		in, err := x.has(ctx, ch.Tag)
		if err != nil {
			return err
		}
		if in {
			n.say(x, ch)
		} else if _, companion := x.subject(ch.Tag); companion { // what it signs may have left just now
			delete(n.seen, itemOf(ch.Repository, ch.Tag, ""))
		} else if x.kept != nil && n.scope.Matches(ch.Tag) { // newer ones came since
			n.say(x, removal(ch.Repository, ch.Tag))
		}
	case storage.TagRemoved:
		if _, companion := subscription.Subject(ch.Tag); companion || n.scope.Matches(ch.Tag) {
			n.say(x, ch)
		}
	case storage.ManifestAdded, storage.ManifestLed:
		in, err := x.itself(ctx, ch.Digest)
		if err != nil {
			return err
		}
		if in || seen.known {
			n.say(x, manifest(ch.Repository, ch.Digest, in))
		} else {
			// What it refers to may have left just now, and what refers to it
			// went alone until it came.
			delete(n.seen, itemOf(ch.Repository, "", ch.Digest))
			x.moved = append(x.moved, ch.Digest)
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
func (n *narrowing) say(x *touched, ch wire.Change) {
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
	if _, companion := subscription.Subject(ch.Tag); ch.Tag == "" || companion || n.scope.Matches(ch.Tag) {
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
		if i < n.scope.KeepLast()-n.behind || n.said(x, t.Name, "") {
			continue
		}
		if x.kept[t.Name] {
			n.say(x, wire.Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: t.Name, Digest: t.Digest})
		} else {
			n.say(x, removal(x.repository, t.Name))
			x.moved = append(x.moved, t.Digest)
		}
	}
}

// belongings adds the signatures of what came into scope, what refers to it,
// and the removal of both where that left: none has a change of its own.
func (n *narrowing) belongings(ctx context.Context, x *touched) error {
	tags, referrers, err := x.belongings(ctx, x.moved, n.walk)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if n.said(x, t.Name, "") {
			continue
		}
		in, err := x.leads(ctx, t.subject)
		if err != nil {
			return err
		}
		if in {
			n.all = append(n.all, wire.Change{Kind: string(storage.TagSet), Repository: x.repository, Tag: t.Name, Digest: t.Digest})
		} else {
			n.all = append(n.all, removal(x.repository, t.Name))
		}
	}
	for _, r := range referrers {
		if n.said(x, "", r.digest) {
			continue
		}
		in, err := x.unnamed(ctx, r.digest, r.subject)
		if err != nil {
			return err
		}
		n.all = append(n.all, manifest(x.repository, r.digest, in))
	}
	return nil
}

// walk counts a manifest that was looked at, and what was found there. Whoever
// pushes could let a poll take longer than its child waits for it.
func (n *narrowing) walk(found int) error {
	n.walked++
	n.told += found
	if n.walked > maxWalked || n.told > maxTold {
		return errTooMuch
	}
	return nil
}

// said reports whether all is said of a tag, or of a manifest without one; it
// is from now on.
func (n *narrowing) said(x *touched, tag string, d digest.Digest) bool {
	item := itemOf(x.repository, tag, d)
	said := n.seen[item]
	n.seen[item] = true
	return said
}

// manifest says whether a manifest goes to the caller for itself.
func manifest(repository string, d digest.Digest, in bool) wire.Change {
	kind := storage.ManifestRemoved
	if in {
		kind = storage.ManifestAdded
	}
	return wire.Change{Kind: string(kind), Repository: repository, Digest: d}
}

func removal(repository, tag string) wire.Change {
	return wire.Change{Kind: string(storage.TagRemoved), Repository: repository, Tag: tag}
}
