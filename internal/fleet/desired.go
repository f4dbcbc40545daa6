package fleet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/jsonlimit"
	"ferry/internal/wire"
)

// Desired returns what the connected registry name, which is right below
// this instance, must know: itself, its descendants, and the tokens and
// scope maps of them all. The version is the same as long as all of it is,
// who is activated aside. The result is shared and must not be changed.
// Implements [gateway.ControlPlane].
func (s *Service) Desired(_ context.Context, name string) (*wire.Desired, error) {
	at := s.control.ChangedAt(name) // before the state is read
	state := s.control.State()
	child, err := s.child(state, name)
	if err != nil {
		return nil, err
	}
	name = child.Name // which callers may spell in many ways
	s.mu.Lock()
	known, ok := s.desired[name]
	s.mu.Unlock()
	if ok && known.version >= at {
		return known.value, nil
	}
	d, err := desiredFrom(state, child)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.desired) >= maxRegistries {
		clear(s.desired)
	}
	s.desired[name] = remembered{d, state.Version()}
	return d, nil
}

// checkRoom returns an error if the desired state of the connected registry at the top of way, which
// leads there from one below it, would be more than that one accepts, with more client tokens.
func checkRoom(state *control.State, way []*control.Registry, clientTokens []string) error {
	if len(way) == 0 {
		return nil
	}
	top := way[len(way)-1]
	b := newBuilder(state, top)
	for _, name := range clientTokens {
		b.clientToken(name)
	}
	err := gateway.CheckDesired(&b.d)
	if errors.Is(err, jsonlimit.ErrTooLarge) {
		return control.Conflict("the connected registry '%s' accepts no more below it: there are %d others, and tokens and scope "+
			"maps for all of them", top.Name, len(b.d.ConnectedRegistries)).
			WithHint("create more connected registries at the top, or below another one; or use fewer client tokens")
	}
	return err
}

// child returns the connected registry name when it is right below this
// instance, else [gateway.ErrUnknown].
func (s *Service) child(state *control.State, name string) (*control.Registry, error) {
	r := state.Registry(name)
	if r == nil || !s.control.IsChild(r.ConnectedRegistry) {
		return nil, gateway.ErrUnknown
	}
	return r, nil
}

func desiredFrom(state *control.State, child *control.Registry) (*wire.Desired, error) {
	b := newBuilder(state, child)
	slices.SortFunc(b.d.Tokens, func(x, y wire.Token) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.d.ScopeMaps, func(x, y wire.ScopeMap) int { return cmp.Compare(x.Name, y.Name) })
	var err error
	b.d.Version, err = version(b.d)
	return &b.d, err
}

// A builder collects a desired state.
type builder struct {
	state             *control.State
	d                 wire.Desired
	tokens, scopeMaps map[string]bool // that it has
}

// newBuilder returns the builder of a child's desired state, which has everything but the version.
func newBuilder(state *control.State, child *control.Registry) *builder {
	b := &builder{state: state, tokens: map[string]bool{}, scopeMaps: map[string]bool{}}
	b.d.Self = b.registry(child, nil)
	for _, below := range state.Below(child.Name) {
		b.d.ConnectedRegistries = append(b.d.ConnectedRegistries, b.registry(below, &below.SyncToken))
	}
	return b
}

// registry returns a connected registry as it is sent, and adds its tokens and
// scope maps. syncToken is nil for the one that it is sent to, which has the
// token's password already.
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
	return w
}

// clientToken adds a token and its scope map.
func (b *builder) clientToken(name string) {
	b.token(name)
	b.scopeMapOf(name)
}

// token adds a token. One that is gone is no error: its connected registry then
// may do nothing.
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
	m := b.state.ScopeMap(t.ScopeMap)
	if m == nil {
		return nil
	}
	if !b.scopeMaps[m.Name] {
		b.scopeMaps[m.Name] = true
		b.d.ScopeMaps = append(b.d.ScopeMaps, wire.ScopeMap{Name: m.Name, Actions: m.Actions})
	}
	return m.Actions
}

// version is a digest of all that a desired state says. Who is activated is
// left out: it moves by itself, and nobody below has to act on it.
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
