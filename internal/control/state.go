package control

import (
	"errors"
	"slices"
	"strings"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// A State is the control plane at one version: all connected registries, tokens, scope maps and
// operators. It is immutable: reading it needs no lock and no SQL. Successive versions share
// everything that did not change.
type State struct {
	version           int64
	change            int64                   // the last transaction of which it knows; see [metadb.DB.Share]
	registries        *iradix.Tree[*Registry] // by lower-case name
	children          *iradix.Tree[*Registry] // by lower-case parent and name
	tokens            *iradix.Tree[*Token]
	scopeMaps         *iradix.Tree[*metadb.ScopeMap]
	anonymous         *iradix.Tree[*anonymousRights] // by scope map; only those that give any
	operators         *iradix.Tree[*Operator]
	apiKeys           *iradix.Tree[*metadb.APIKey] // by hash
	registriesByToken *iradix.Tree[string]         // by sync or client token and lower-case name
	tokensByScopeMap  *iradix.Tree[string]         // by scope map and name
}

// A Registry is a connected registry with its settings. Its Status is nil: reports are not part of
// the state.
type Registry struct {
	metadb.ConnectedRegistry
	Settings Spec
}

// A Token is a token with its rights.
type Token struct {
	metadb.Token
	Actions     []string // of its scope map
	Permissions auth.Permissions
	generations []string // of its passwords, in their order
	invalid     error    // why Actions cannot be read
}

func newState() *State {
	return &State{
		registries: iradix.New[*Registry](), children: iradix.New[*Registry](), tokens: iradix.New[*Token](),
		scopeMaps: iradix.New[*metadb.ScopeMap](), anonymous: iradix.New[*anonymousRights](),
		operators: iradix.New[*Operator](), apiKeys: iradix.New[*metadb.APIKey](),
		registriesByToken: iradix.New[string](), tokensByScopeMap: iradix.New[string](),
	}
}

// key joins the parts of a key. A last part of "" makes it the prefix of all keys that begin with
// the other parts.
func key(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

// readState reads the whole control plane.
func readState(tx *metadb.Tx) (*State, error) {
	s := newState()
	var err error
	if s.version, err = tx.ControlVersion(); err != nil {
		return nil, err
	}
	if s.change, err = tx.LastChange(); err != nil {
		return nil, err
	}
	maps, err := tx.ScopeMaps()
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		s.setScopeMap(m.Name, &m)
	}
	tokens, err := tx.Tokens()
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		s.setToken(t.Name, &t)
	}
	registries, err := tx.ConnectedRegistries()
	if err != nil {
		return nil, err
	}
	for _, r := range registries {
		if err := s.setRegistry(strings.ToLower(r.Name), &r); err != nil {
			return nil, err
		}
	}
	operators, err := tx.Operators()
	if err != nil {
		return nil, err
	}
	keys, err := tx.APIKeys()
	for _, o := range operators {
		s.setOperator(o.Name, &o, keys)
	}
	return s, err
}

// with returns the state at the next version, after rows were written.
func (s *State) with(tx *metadb.Tx, rows []metadb.ControlRow, version int64) (*State, error) {
	next := *s
	next.version = version
	for _, row := range rows {
		if err := next.read(tx, row); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// read replaces one row with its current value in the database.
func (s *State) read(tx *metadb.Tx, row metadb.ControlRow) error {
	switch row.Table {
	case metadb.ScopeMapRow:
		m, err := OrNil(tx.ScopeMap(row.Name))
		if err == nil {
			s.setScopeMap(row.Name, m)
		}
		return err
	case metadb.TokenRow:
		t, err := OrNil(tx.Token(row.Name))
		if err == nil {
			s.setToken(row.Name, t)
		}
		return err
	case metadb.ConnectedRegistryRow:
		r, err := OrNil(tx.ConnectedRegistry(row.Name))
		if err != nil {
			return err
		}
		return s.setRegistry(row.Name, r)
	case metadb.OperatorRow:
		o, err := OrNil(tx.Operator(row.Name))
		if err != nil {
			return err
		}
		keys, err := tx.APIKeysOf(row.Name)
		if err == nil {
			s.setOperator(row.Name, o, keys)
		}
		return err
	}
	return nil
}

// OrNil returns a row, or nil if there is none.
func OrNil[T any](row T, err error) (*T, error) {
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &row, nil
}

// setScopeMap replaces or removes a scope map, and updates the rights of its tokens.
func (s *State) setScopeMap(name string, m *metadb.ScopeMap) {
	if m == nil {
		s.scopeMaps, _, _ = s.scopeMaps.Delete(key(name))
	} else {
		s.scopeMaps, _, _ = s.scopeMaps.Insert(key(name), m)
	}
	if a := anonymousRightsOf(m); a == nil {
		s.anonymous, _, _ = s.anonymous.Delete(key(name))
	} else {
		s.anonymous, _, _ = s.anonymous.Insert(key(name), a)
	}
	for _, token := range s.entries(s.tokensByScopeMap, name) {
		if t, ok := s.tokens.Get(key(token)); ok {
			row := t.Token
			s.setToken(token, &row)
		}
	}
}

// setToken replaces a token, or removes it.
func (s *State) setToken(name string, row *metadb.Token) {
	if old, ok := s.tokens.Get(key(name)); ok {
		s.tokensByScopeMap, _, _ = s.tokensByScopeMap.Delete(key(old.ScopeMap, name))
	}
	if row == nil {
		s.tokens, _, _ = s.tokens.Delete(key(name))
		return
	}
	t := &Token{Token: *row}
	for _, p := range row.Passwords {
		t.generations = append(t.generations, auth.Generation(p.Hash))
	}
	if m, ok := s.scopeMaps.Get(key(row.ScopeMap)); ok {
		t.Actions = m.Actions
		t.Permissions, t.invalid = auth.ParsePermissions(m.Actions)
	}
	s.tokens, _, _ = s.tokens.Insert(key(name), t)
	if row.ScopeMap != "" {
		s.tokensByScopeMap, _, _ = s.tokensByScopeMap.Insert(key(row.ScopeMap, name), name)
	}
}

// setRegistry replaces a connected registry, or removes it. Its name is in lower case.
func (s *State) setRegistry(name string, row *metadb.ConnectedRegistry) error {
	if old, ok := s.registries.Get(key(name)); ok {
		s.children, _, _ = s.children.Delete(key(strings.ToLower(old.Parent), name))
		for _, token := range old.tokens() {
			s.registriesByToken, _, _ = s.registriesByToken.Delete(key(token, name))
		}
	}
	if row == nil {
		s.registries, _, _ = s.registries.Delete(key(name))
		return nil
	}
	spec, err := SpecOf(*row)
	if err != nil {
		return err
	}
	r := &Registry{ConnectedRegistry: *row, Settings: spec}
	r.Status = nil
	s.registries, _, _ = s.registries.Insert(key(name), r)
	s.children, _, _ = s.children.Insert(key(strings.ToLower(r.Parent), name), r)
	for _, token := range r.tokens() {
		s.registriesByToken, _, _ = s.registriesByToken.Insert(key(token, name), name)
	}
	return nil
}

// tokens are the registry's sync token and client tokens.
func (r *Registry) tokens() []string {
	return append([]string{r.SyncToken}, r.Settings.ClientTokens...)
}

// setOperator replaces an operator and its API keys, or removes it. all may have keys of others.
func (s *State) setOperator(name string, row *metadb.Operator, all []metadb.APIKey) {
	if old, ok := s.operators.Get(key(name)); ok {
		for _, k := range old.keys {
			s.apiKeys, _, _ = s.apiKeys.Delete(key(k.Hash))
		}
	}
	if row == nil {
		s.operators, _, _ = s.operators.Delete(key(name))
		return
	}
	o := newOperator(*row, all)
	for _, k := range o.keys {
		s.apiKeys, _, _ = s.apiKeys.Insert(key(k.Hash), k)
	}
	s.operators, _, _ = s.operators.Insert(key(name), o)
}

// entries returns the values of an index for the first part of its keys.
func (s *State) entries(index *iradix.Tree[string], first string) (all []string) {
	index.Root().WalkPrefix(key(first, ""), func(_ []byte, v string) bool {
		all = append(all, v)
		return false
	})
	return all
}

// Version counts the writes to the control plane.
func (s *State) Version() int64 { return s.version }

// Registry returns the connected registry name, in any case; nil if there is none.
func (s *State) Registry(name string) *Registry {
	r, _ := s.registries.Get(key(strings.ToLower(name)))
	return r
}

// Children returns the connected registries right below name, by name.
func (s *State) Children(name string) (all []*Registry) {
	s.children.Root().WalkPrefix(key(strings.ToLower(name), ""), func(_ []byte, r *Registry) bool {
		all = append(all, r)
		return false
	})
	return all
}

// Below returns the descendants of name, each followed by its own.
func (s *State) Below(name string) []*Registry { return s.below(name, 0) }

func (s *State) below(name string, depth int) (all []*Registry) {
	if depth > MaxDepth {
		return nil // rows that form a cycle
	}
	for _, r := range s.Children(name) {
		all = append(append(all, r), s.below(r.Name, depth+1)...)
	}
	return all
}

// Ancestors returns the connected registries from parent upwards.
func (s *State) Ancestors(parent string) (all []*Registry) {
	for r := s.Registry(parent); r != nil && len(all) <= MaxDepth; r = s.Registry(r.Parent) {
		all = append(all, r)
	}
	return all
}

// Tops returns the connected registries whose parent is not in the state, by name. A connected
// registry does not know its own ancestors.
func (s *State) Tops() (all []*Registry) {
	s.registries.Root().Walk(func(_ []byte, r *Registry) bool {
		if s.Registry(r.Parent) == nil {
			all = append(all, r)
		}
		return false
	})
	return all
}

// Count returns the number of connected registries.
func (s *State) Count() int { return s.registries.Len() }

// SyncedBy returns the connected registry whose sync token has the given name; nil if there is
// none.
func (s *State) SyncedBy(token string) *Registry {
	for _, name := range s.entries(s.registriesByToken, token) {
		if r := s.Registry(name); r != nil && r.SyncToken == token {
			return r
		}
	}
	return nil
}

// UsedByOthers reports whether a token is a sync or client token of a connected registry other than name.
func (s *State) UsedByOthers(token, name string) bool {
	return slices.ContainsFunc(s.entries(s.registriesByToken, token), func(user string) bool {
		return !strings.EqualFold(user, name)
	})
}

// Token returns the token name; nil if there is none.
func (s *State) Token(name string) *Token {
	t, _ := s.tokens.Get(key(name))
	return t
}

// MayLogIn reports whether a token is enabled and has a valid password.
func (s *State) MayLogIn(name string, now time.Time) bool {
	return s.Token(name).MayLogIn(now)
}

// MayLogIn reports whether the token is enabled and has a valid password. A token that is nil may not.
func (t *Token) MayLogIn(now time.Time) bool {
	return t != nil && t.Status == api.Enabled && slices.ContainsFunc(t.Passwords, func(p metadb.Password) bool {
		return p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt)
	})
}

// ScopeMap returns the scope map name; nil if there is none.
func (s *State) ScopeMap(name string) *metadb.ScopeMap {
	m, _ := s.scopeMaps.Get(key(name))
	return m
}

// Operator returns the operator name; nil if there is none.
func (s *State) Operator(name string) *Operator {
	o, _ := s.operators.Get(key(name))
	return o
}

// Operators returns every operator, by name.
func (s *State) Operators() (all []*Operator) {
	s.operators.Root().Walk(func(_ []byte, o *Operator) bool {
		all = append(all, o)
		return false
	})
	return all
}

// apiKey returns the API key with a hash; nil if there is none.
func (s *State) apiKey(hash string) *metadb.APIKey {
	k, _ := s.apiKeys.Get(key(hash))
	return k
}

// RegistriesOf returns the connected registries, in lower case, that a row affects.
func (s *State) RegistriesOf(row metadb.ControlRow) (names []string) {
	switch row.Table {
	case metadb.ConnectedRegistryRow:
		return []string{row.Name}
	case metadb.TokenRow:
		return s.entries(s.registriesByToken, row.Name)
	case metadb.ScopeMapRow:
		for _, token := range s.entries(s.tokensByScopeMap, row.Name) {
			names = append(names, s.entries(s.registriesByToken, token)...)
		}
	}
	return names
}

// childAbove returns, in lower case, the child of self that is the connected registry name or its
// ancestor; "" if there is none.
func (s *State) childAbove(name, self string) string {
	for _, r := range s.Ancestors(name) { // the first is name itself
		if strings.EqualFold(r.Parent, self) {
			return strings.ToLower(r.Name)
		}
	}
	return ""
}

// affectedChildren returns, in lower case, the children of self whose desired state may differ
// between two states because rows were written.
func affectedChildren(old, next *State, rows []metadb.ControlRow, self string) []string {
	var names []string
	for _, s := range []*State{old, next} {
		for _, row := range rows {
			for _, name := range s.RegistriesOf(row) {
				if top := s.childAbove(name, self); top != "" {
					names = append(names, top)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
