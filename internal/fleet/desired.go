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
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// Desired returns what the connected registry name, which is right below
// this instance, is to know: itself, its descendants, and the tokens and
// scope maps of them all. The version is the same as long as all of it is,
// who is activated aside. The result is shared and must not be changed.
// Implements [gateway.ControlPlane].
func (s *Service) Desired(ctx context.Context, name string) (*wire.Desired, error) {
	generation := s.control.Generation()
	s.mu.Lock()
	r, ok := s.desired[name]
	s.mu.Unlock()
	if ok && r.generation == generation {
		return r.value, nil
	}
	var d *wire.Desired
	err := s.db.View(ctx, func(tx *metadb.Tx) (err error) {
		d, err = s.readDesired(tx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.desired) >= maxRegistries {
		clear(s.desired)
	}
	s.desired[name] = remembered{d, generation}
	return d, nil
}

func (s *Service) readDesired(tx *metadb.Tx, name string) (*wire.Desired, error) {
	row, err := s.child(tx, name)
	if err != nil {
		return nil, err
	}
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return nil, err
	}
	b := builder{s: s, tx: tx, tokens: map[string]bool{}, scopeMaps: map[string]bool{}}
	if b.d.Self, err = b.registry(row, true); err != nil {
		return nil, err
	}
	for _, below := range treeOf(rows).below(row.Name) {
		r, err := b.registry(below, false)
		if err != nil {
			return nil, err
		}
		b.d.ConnectedRegistries = append(b.d.ConnectedRegistries, r)
	}
	slices.SortFunc(b.d.Tokens, func(x, y wire.Token) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.d.ScopeMaps, func(x, y wire.ScopeMap) int { return cmp.Compare(x.Name, y.Name) })
	b.d.Version, err = version(b.d)
	return &b.d, err
}

// child returns the connected registry name when it is right below this
// instance, else [gateway.ErrUnknown].
func (s *Service) child(tx *metadb.Tx, name string) (metadb.ConnectedRegistry, error) {
	row, err := tx.ConnectedRegistry(name)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && !s.control.IsChild(row) {
		return row, gateway.ErrUnknown
	}
	return row, err
}

// A builder collects a desired state.
type builder struct {
	s                 *Service
	tx                *metadb.Tx
	d                 wire.Desired
	tokens, scopeMaps map[string]bool // that it has
}

// registry returns a row as it goes over the wire, and adds its tokens. The
// sync token of the one that it goes to stays here: it has its password.
func (b *builder) registry(row metadb.ConnectedRegistry, self bool) (wire.ConnectedRegistry, error) {
	v, err := control.SpecOf(row)
	if err != nil {
		return wire.ConnectedRegistry{}, err
	}
	r := wireOf(row, v)
	r.Permissions = []string{}
	for _, name := range v.ClientTokens {
		if _, err := b.token(name, true); err != nil {
			return r, err
		}
	}
	actions, err := b.token(row.SyncToken, !self)
	r.Permissions = control.OnRepositories(actions)
	return r, err
}

// token adds the scope map of a token, and the token itself where it is to
// go along, and returns the scope map's actions. A token that is gone is no
// error: its connected registry then may do nothing.
func (b *builder) token(name string, along bool) ([]string, error) {
	t, err := b.tx.Token(name)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if along && !b.tokens[name] {
		b.tokens[name] = true
		w := wire.Token{Name: t.Name, ScopeMap: t.ScopeMap, Status: t.Status, CreatedAt: t.CreatedAt}
		for _, p := range t.Passwords {
			w.Passwords = append(w.Passwords, wire.Password{Name: p.Name, Hash: p.Hash, CreatedAt: p.CreatedAt, ExpiresAt: p.ExpiresAt})
		}
		b.d.Tokens = append(b.d.Tokens, w)
	}
	if t.ScopeMap == "" {
		return nil, nil
	}
	m, err := b.tx.ScopeMap(t.ScopeMap)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !b.scopeMaps[m.Name] {
		b.scopeMaps[m.Name] = true
		b.d.ScopeMaps = append(b.d.ScopeMaps, wire.ScopeMap{Name: m.Name, Actions: m.Actions})
	}
	return m.Actions, nil
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
