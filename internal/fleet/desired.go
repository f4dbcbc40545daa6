package fleet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// Desired returns the desired state of the child name: the child itself, its descendants, and all
// their tokens and scope maps. Its version changes with any of this, apart from activations. The
// result is shared and must not be modified. Implements [gateway.ControlPlane].
func (s *Service) Desired(_ context.Context, name string) (*wire.Desired, error) {
	at := s.control.ChangedAt(name) // must come before the state is read
	state := s.control.State()
	child, err := s.child(state, name)
	if err != nil {
		return nil, err
	}
	name = child.Name // callers may spell the name in any case
	announced := s.announce()
	s.mu.Lock()
	known, ok := s.desired[name]
	accepts := s.accepts
	s.mu.Unlock()
	if ok && known.version >= at && known.announced == announced {
		return known.value, nil
	}
	b := newBuilder(state)
	b.tree(child)
	b.d.ParentEndpoint = announced
	if accepts {
		b.ownToken(child.SyncToken)
	}
	d, err := b.build()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.desired) >= s.control.Maxima().ConnectedRegistries {
		clear(s.desired)
	}
	s.desired[name] = cachedDesired{d, state.Version(), announced}
	return d, nil
}

// child returns the connected registry name if it is a child of this instance, else
// [gateway.ErrUnknown].
func (s *Service) child(state *control.State, name string) (*control.Registry, error) {
	r := state.Registry(name)
	if r == nil || !s.control.IsChild(r.ConnectedRegistry) {
		return nil, gateway.ErrUnknown
	}
	return r, nil
}

// build returns the desired state, with its version.
func (b *builder) build() (*wire.Desired, error) {
	slices.SortFunc(b.d.Tokens, func(x, y wire.Token) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.d.ScopeMaps, func(x, y wire.ScopeMap) int { return cmp.Compare(x.Name, y.Name) })
	var err error
	b.d.Version, err = version(b.d)
	return &b.d, err
}

// ownToken adds the passwords of the receiver's sync token.
func (b *builder) ownToken(name string) {
	if t := b.state.Token(name); t != nil {
		b.d.OwnToken = &wire.OwnToken{Passwords: wirePasswords(t.Passwords)}
	}
}

// A builder builds a desired state.
type builder struct {
	state             *control.State
	d                 wire.Desired
	tokens, scopeMaps map[string]bool // names that d has
}

func newBuilder(state *control.State) *builder {
	return &builder{state: state, tokens: map[string]bool{}, scopeMaps: map[string]bool{}}
}

// tree adds everything that a child's desired state has, except the version.
func (b *builder) tree(child *control.Registry) {
	b.d.Self = b.registry(child, nil)
	for _, below := range b.state.Below(child.Name) {
		b.d.ConnectedRegistries = append(b.d.ConnectedRegistries, b.registry(below, &below.SyncToken))
	}
}

// registry returns the wire form of a connected registry, and adds its tokens and scope maps.
// syncToken is nil for the receiver of the desired state, which already has its own password.
func (b *builder) registry(r *control.Registry, syncToken *string) wire.ConnectedRegistry {
	w := wireOf(r.ConnectedRegistry, r.Settings)
	w.Permissions = []string{}
	for _, name := range r.Settings.ClientTokens {
		b.clientToken(name)
	}
	if syncToken != nil {
		b.token(*syncToken)
	}
	w.Permissions = control.OnRepositories(b.scopeMapOf(r.SyncToken))
	for _, g := range b.state.Gaps(r) { // a root knows all ancestors; others have its list, too
		w.Gaps = control.Union(w.Gaps, []string{g.Repository})
	}
	return w
}

// clientToken adds a token and its scope map.
func (b *builder) clientToken(name string) {
	b.token(name)
	b.scopeMapOf(name)
}

// token adds a token. A missing token is no error: its connected registry then has no rights.
func (b *builder) token(name string) {
	t := b.state.Token(name)
	if t == nil || b.tokens[name] {
		return
	}
	b.tokens[name] = true
	w := wire.Token{Name: t.Name, ScopeMap: t.ScopeMap, Status: t.Status, CreatedAt: t.CreatedAt}
	for _, p := range t.Passwords {
		w.Passwords = append(w.Passwords, wire.Password(p))
	}
	b.d.Tokens = append(b.d.Tokens, w)
}

// scopeMapOf adds the scope map of a token, and returns its actions.
func (b *builder) scopeMapOf(token string) []string {
	t := b.state.Token(token)
	if t == nil {
		return nil
	}
	return b.scopeMap(t.ScopeMap)
}

// scopeMap adds a scope map, if it exists, and returns its actions.
func (b *builder) scopeMap(name string) []string {
	m := b.state.ScopeMap(name)
	if m == nil {
		return nil
	}
	if !b.scopeMaps[m.Name] {
		b.scopeMaps[m.Name] = true
		w := wire.ScopeMap{Name: m.Name, Actions: m.Actions, AnonymousNetworks: m.AnonymousNetworks}
		if control.HasExclusions(m.Actions) {
			w.Actions, w.ActionsWithExclusions = control.WithoutExclusions(m.Actions), m.Actions
		}
		b.d.ScopeMaps = append(b.d.ScopeMaps, w)
	}
	return m.Actions
}

// version returns a hash of everything in a desired state, apart from activations: they change by
// themselves, and no descendant has to act on them.
func version(d wire.Desired) (string, error) {
	d.Version, d.Self.InstanceID = "", ""
	d.ConnectedRegistries = slices.Clone(d.ConnectedRegistries)
	for i := range d.ConnectedRegistries {
		d.ConnectedRegistries[i].InstanceID = ""
	}
	text, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}
