package control

import (
	"context"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// A directory authenticates the users of an instance, from its current state.
type directory struct{ *Service }

var _ auth.Directory = directory{}

// Authenticate implements [auth.Directory]. If an operator has the name, it always means the
// operator: a token of the same name, sent by a parent, must not lock the operators of this
// instance out.
func (d directory) Authenticate(ctx context.Context, name, password string) (*auth.Principal, error) {
	state := d.State()
	if o := state.Operator(name); o != nil {
		same, err := d.verifier.Same(ctx, o.PasswordHash, password)
		if err == nil && !same {
			err = auth.ErrUnauthenticated
		}
		if err != nil {
			return nil, err
		}
		return principalOf(o), nil
	}
	if state.Token(name) == nil {
		return nil, d.verifier.RefuseUnknown(ctx, password)
	}
	return d.tokenWith(state, name, password)
}

// AuthenticateToken implements [auth.Directory].
func (d directory) AuthenticateToken(name, password string) (p *auth.Principal, known bool, err error) {
	state := d.State()
	if state.Operator(name) != nil || state.Token(name) == nil {
		return nil, false, auth.ErrUnauthenticated
	}
	p, err = d.tokenWith(state, name, password)
	return p, true, err
}

// tokenWith returns the token name if it may be used here with the password.
func (d directory) tokenWith(s *State, name, password string) (*auth.Principal, error) {
	return d.token(s, name,
		func(t *Token, slot int) bool { return auth.SamePassword(t.Passwords[slot].Hash, password) })
}

// Lookup implements [auth.Directory].
func (d directory) Lookup(_ context.Context, kind auth.Kind, name, generation string) (*auth.Principal, error) {
	state := d.State()
	o := state.Operator(name)
	switch {
	case kind == auth.KindToken && o == nil:
		return d.token(state, name, func(t *Token, slot int) bool { return t.generations[slot] == generation })
	case kind == auth.KindOperator && o != nil && auth.Generation(o.PasswordHash) == generation:
		return principalOf(o), nil
	}
	return nil, auth.ErrUnauthenticated
}

func principalOf(o *metadb.Operator) *auth.Principal {
	p := &auth.Principal{
		Kind: auth.KindOperator, Name: o.Name, Permissions: auth.ReadEverything,
		Generation: auth.Generation(o.PasswordHash),
	}
	if o.Role == roleAdmin {
		p.Permissions, p.Admin = auth.Everything, true
	}
	return p
}

// token returns the token name if it may be used here, and one of its valid passwords satisfies
// right.
func (d directory) token(s *State, name string, right func(t *Token, slot int) bool) (*auth.Principal, error) {
	t := s.Token(name)
	if t == nil || t.Status != api.Enabled || t.ScopeMap != "" && s.ScopeMap(t.ScopeMap) == nil {
		return nil, auth.ErrUnauthenticated
	}
	slot := 0
	for slot < len(t.Passwords) && !(isValid(t.Passwords[slot], d.now()) && right(t, slot)) {
		slot++
	}
	if slot == len(t.Passwords) {
		return nil, auth.ErrUnauthenticated
	}
	if t.invalid != nil {
		return nil, t.invalid
	}
	p := &auth.Principal{
		Kind: auth.KindToken, Name: t.Name, Permissions: t.Permissions, Generation: t.generations[slot],
	}
	if d.self != "" {
		return p, d.admit(s, p)
	}
	return p, nil
}

// isValid reports whether a password has not expired.
func isValid(p metadb.Password, now time.Time) bool {
	return p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt)
}

// admit returns an error unless a token may be used at this connected registry: as the sync token
// of a child, or as a client token. A client token has no rights on gateways here.
func (s *Service) admit(state *State, p *auth.Principal) error {
	client := false
	for _, name := range state.entries(state.registriesByToken, p.Name) {
		r := state.Registry(name)
		if s.IsChild(r.ConnectedRegistry) && r.SyncToken == p.Name {
			return nil
		}
		client = client || s.IsSelf(r.Name) && slices.Contains(r.Settings.ClientTokens, p.Name)
	}
	if !client {
		return auth.ErrUnauthenticated
	}
	p.Permissions = p.Permissions.WithoutGateways()
	return nil
}

// Writable reports whether clients may push here. They may do so only in a root, because nothing
// sends pushed content from a connected registry to its parent, even in mode ReadWrite.
func (s *Service) Writable() bool { return s.self == "" }
