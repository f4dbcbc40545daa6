package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// A directory answers who may use an instance, from its state.
type directory struct{ *Service }

var _ auth.Directory = directory{}

// Authenticate implements [auth.Directory].
func (d directory) Authenticate(ctx context.Context, name, password string) (*auth.Principal, error) {
	state := d.State()
	p, err := d.token(state, name)
	if err == nil {
		if !proves(state.Token(name).Passwords, password, d.now()) {
			return nil, auth.ErrUnauthenticated
		}
		return p, nil
	}
	if !errors.Is(err, auth.ErrUnauthenticated) {
		return nil, err
	}
	if p, err = d.operator(state, name); err != nil {
		return nil, err
	}
	same, err := d.verifier.Same(ctx, state.Operator(name).PasswordHash, password)
	if err == nil && !same {
		err = auth.ErrUnauthenticated
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// proves reports whether password is in one of a token's slots, and good now.
func proves(slots []metadb.Password, password string, now time.Time) (right bool) {
	for _, p := range slots {
		if auth.SamePassword(p.Hash, password) && (p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt)) {
			right = true
		}
	}
	return right
}

// Lookup implements [auth.Directory].
func (d directory) Lookup(_ context.Context, kind auth.Kind, name string) (*auth.Principal, error) {
	if kind == auth.KindToken {
		return d.token(d.State(), name)
	}
	return d.operator(d.State(), name)
}

func (d directory) operator(s *State, name string) (*auth.Principal, error) {
	o := s.Operator(name)
	if o == nil {
		return nil, auth.ErrUnauthenticated
	}
	p := &auth.Principal{Kind: auth.KindOperator, Name: o.Name, Permissions: auth.ReadEverything}
	if o.Role == roleAdmin {
		p.Permissions, p.Admin = auth.Everything, true
	}
	return p, nil
}

func (d directory) token(s *State, name string) (*auth.Principal, error) {
	t := s.Token(name)
	if t == nil || t.Status != api.Enabled || t.ScopeMap != "" && s.ScopeMap(t.ScopeMap) == nil {
		return nil, auth.ErrUnauthenticated
	}
	if t.invalid != nil {
		return nil, t.invalid
	}
	p := &auth.Principal{Kind: auth.KindToken, Name: t.Name, Permissions: t.Permissions}
	if d.self != "" {
		return p, d.admit(s, p)
	}
	return p, nil
}

// admit returns an error unless a token may be used at this connected
// registry: as the sync token of a child, or as a client token, which then
// has no say in a gateway.
func (s *Service) admit(state *State, p *auth.Principal) error {
	client := false
	for _, name := range state.under(state.users, p.Name) {
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

// Writable reports whether clients may write here: in a root alone, since
// nothing sends up what is pushed to a connected registry, whatever its mode.
func (s *Service) Writable() bool { return s.self == "" }
