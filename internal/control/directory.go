package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// Limits on what the directory remembers: for how long, should it be another
// process that writes, and how many.
const (
	directoryLife = 5 * time.Second
	maxDirectory  = 10_000
)

// A directory answers who may use this instance from memory, which every
// write of the service clears.
type directory struct {
	service  *Service
	verifier *auth.OperatorVerifier

	mu         sync.Mutex
	generation int64
	known      map[identity]account
}

type identity struct {
	kind auth.Kind
	name string
}

// An account is a principal with what proves it.
type account struct {
	principal *auth.Principal
	passwords []metadb.Password // of a token
	hash      string            // of an operator
	until     time.Time
}

var _ auth.Directory = (*directory)(nil)

func newDirectory(s *Service) *directory {
	return &directory{service: s, verifier: auth.NewOperatorVerifier(), known: map[identity]account{}}
}

// Authenticate implements [auth.Directory].
func (d *directory) Authenticate(ctx context.Context, name, password string) (*auth.Principal, error) {
	a, err := d.account(ctx, auth.KindToken, name)
	if err == nil {
		return a.proven(password, d.service.now())
	}
	if !errors.Is(err, auth.ErrUnauthenticated) {
		return nil, err
	}
	a, err = d.account(ctx, auth.KindOperator, name)
	if err != nil {
		return nil, err
	}
	same, err := d.verifier.Same(ctx, a.hash, password)
	if err == nil && !same {
		err = auth.ErrUnauthenticated
	}
	if err != nil {
		return nil, err
	}
	return a.principal, nil
}

// proven returns a token's principal when password is in one of its slots.
func (a account) proven(password string, now time.Time) (*auth.Principal, error) {
	right := false
	for _, p := range a.passwords {
		if auth.SamePassword(p.Hash, password) && (p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt)) {
			right = true
		}
	}
	if !right {
		return nil, auth.ErrUnauthenticated
	}
	return a.principal, nil
}

// Lookup implements [auth.Directory].
func (d *directory) Lookup(ctx context.Context, kind auth.Kind, name string) (*auth.Principal, error) {
	a, err := d.account(ctx, kind, name)
	return a.principal, err
}

// account returns who has the name, from memory where it is there.
func (d *directory) account(ctx context.Context, kind auth.Kind, name string) (account, error) {
	generation, now := d.service.generation.Load(), d.service.now()
	id := identity{kind, name}
	d.mu.Lock()
	if d.generation != generation {
		clear(d.known)
		d.generation = generation
	}
	a, ok := d.known[id]
	d.mu.Unlock()
	if ok && now.Before(a.until) {
		return a, nil
	}
	err := d.service.db.View(ctx, func(tx *metadb.Tx) (err error) {
		a, err = d.read(tx, kind, name)
		return err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		err = auth.ErrUnauthenticated
	}
	if err != nil {
		return account{}, err
	}
	a.until = now.Add(directoryLife)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.generation == generation { // else it was read before a write
		if len(d.known) >= maxDirectory {
			clear(d.known)
		}
		d.known[id] = a
	}
	return a, nil
}

func (d *directory) read(tx *metadb.Tx, kind auth.Kind, name string) (account, error) {
	if kind == auth.KindToken {
		return d.readToken(tx, name)
	}
	row, err := tx.Operator(name)
	if err != nil {
		return account{}, err
	}
	p := &auth.Principal{Kind: auth.KindOperator, Name: row.Name, Permissions: auth.ReadEverything}
	if row.Role == roleAdmin {
		p.Permissions, p.Admin = auth.Everything, true
	}
	return account{principal: p, hash: row.PasswordHash}, nil
}

func (d *directory) readToken(tx *metadb.Tx, name string) (account, error) {
	row, err := tx.Token(name)
	if err != nil {
		return account{}, err
	}
	if row.Status != api.Enabled {
		return account{}, auth.ErrUnauthenticated
	}
	p := &auth.Principal{Kind: auth.KindToken, Name: row.Name}
	if row.ScopeMap != "" {
		m, err := tx.ScopeMap(row.ScopeMap)
		if err != nil {
			return account{}, err
		}
		if p.Permissions, err = auth.ParsePermissions(m.Actions); err != nil {
			return account{}, err
		}
	}
	if d.service.self != "" {
		if err := d.service.admit(tx, p); err != nil {
			return account{}, err
		}
	}
	return account{principal: p, passwords: row.Passwords}, nil
}

// admit returns an error unless a token may be used at this connected
// registry: as the sync token of a child, or as a client token, which then
// has no say in a gateway.
func (s *Service) admit(tx *metadb.Tx, p *auth.Principal) error {
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return err
	}
	client := false
	for _, row := range rows {
		if s.IsChild(row) && row.SyncToken == p.Name {
			return nil
		}
		if !s.IsSelf(row.Name) {
			continue
		}
		v, err := SpecOf(row)
		if err != nil {
			return err
		}
		client = slices.Contains(v.ClientTokens, p.Name)
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
