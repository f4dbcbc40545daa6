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
		return o.principal(), nil
	}
	if state.Token(name) == nil {
		err := d.verifier.RefuseUnknown(ctx, password)
		if !errors.Is(err, auth.ErrUnauthenticated) {
			return nil, err
		}
		// That is slow. A desired state may have brought the token meanwhile.
		p, _, err := d.AuthenticateToken(name, password)
		return p, err
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
		return o.principal(), nil
	case kind == auth.KindOperator && o != nil:
		for _, k := range o.keys {
			if auth.Generation(k.Hash) == generation {
				return d.withKey(o, k)
			}
		}
	}
	return nil, auth.ErrUnauthenticated
}

// AuthenticateKey implements [auth.Directory].
func (d directory) AuthenticateKey(name, key string) (*auth.Principal, error) {
	state := d.State()
	k := state.apiKey(auth.HashPassword(key))
	if k == nil || name != "" && name != k.Operator {
		return nil, auth.ErrUnauthenticated
	}
	o := state.Operator(k.Operator)
	if o == nil {
		return nil, auth.ErrUnauthenticated
	}
	return d.withKey(o, k)
}

// withKey returns the operator that logs in with an API key, unless the key has expired.
func (d directory) withKey(o *Operator, k *metadb.APIKey) (*auth.Principal, error) {
	now := d.now()
	if !now.Before(k.ExpiresAt) {
		return nil, auth.ErrUnauthenticated
	}
	d.keyUse.note(k.Hash, now)
	return o.with(k), nil
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
