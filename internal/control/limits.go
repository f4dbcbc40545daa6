package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// SeesRegistry reports whether the connected registry name exists and is within limits.
func (s *State) SeesRegistry(l auth.Limits, name string) bool {
	r := s.Registry(name)
	return r != nil && l.HasRegistry(r.Settings.Labels)
}

// SeesToken reports whether the token name exists and its scope map is within limits.
func (s *State) SeesToken(l auth.Limits, name string) bool {
	t := s.Token(name)
	return t != nil && (!l.Any() || s.SeesScopeMap(l, t.ScopeMap))
}

// SeesScopeMap reports whether the scope map name exists and is within limits: all that it allows
// is. One that allows nothing is not, because it may be given other actions later.
func (s *State) SeesScopeMap(l auth.Limits, name string) bool {
	m := s.ScopeMap(name)
	if m == nil || !l.Any() {
		return m != nil
	}
	for _, a := range m.Actions {
		kind, name, _, err := auth.ParseAction(a)
		if err != nil {
			return false
		}
		if _, isExclusion := auth.Excluded(name); isExclusion {
			continue // it allows nothing
		}
		if kind == auth.OnRepository && !l.Covers(name) || kind == auth.OnGateway && !s.SeesRegistry(l, name) {
			return false
		}
	}
	return len(m.Actions) > 0
}

// sees reports whether a row exists, and whether it is within limits.
func (s *State) sees(l auth.Limits, row metadb.ControlRow) (exists, seen bool) {
	switch row.Table {
	case metadb.ConnectedRegistryRow:
		return s.Registry(row.Name) != nil, s.SeesRegistry(l, row.Name)
	case metadb.TokenRow:
		return s.Token(row.Name) != nil, s.SeesToken(l, row.Name)
	case metadb.ScopeMapRow:
		return s.ScopeMap(row.Name) != nil, s.SeesScopeMap(l, row.Name)
	}
	return true, !l.Any()
}

// The kinds of object in the audit log and in the paths of the management API.
const (
	KindRegistry   = "connected-registries"
	KindToken      = "tokens"
	KindScopeMap   = "scope-maps"
	KindRepository = "repositories"
	KindMirrorRule = "mirror-rules"
)

// Sees reports whether an object such as "tokens/line1" exists, and whether it is within limits.
// Of a repository, and of content in it, only the name counts. An object of another kind is only
// within no limits.
func (s *State) Sees(tx *metadb.Tx, l auth.Limits, object string) (exists, seen bool, err error) {
	kind, name, _ := strings.Cut(object, "/")
	if !l.Any() {
		return true, true, nil
	}
	tables := map[string]metadb.ControlTable{
		KindRegistry: metadb.ConnectedRegistryRow, KindToken: metadb.TokenRow, KindScopeMap: metadb.ScopeMapRow,
	}
	if table, ok := tables[kind]; ok {
		exists, seen = s.sees(l, metadb.ControlRow{Table: table, Name: name})
		return exists, seen, nil
	}
	switch kind {
	case KindRepository:
		return true, l.Covers(repositoryIn(name)), nil
	case KindMirrorRule:
		row, err := OrNil(tx.MirrorRule(name))
		return row != nil, row != nil && l.Covers(row.Repository), err
	}
	return true, false, nil
}

// repositoryIn returns the repository of an object such as "team/app/tags/v1", without its kind.
func repositoryIn(object string) string {
	for _, part := range []string{"/tags/", "/manifests/", "/blobs/"} {
		if i := strings.LastIndex(object, part); i > 0 && !strings.Contains(object[i+len(part):], "/") {
			return object[:i]
		}
	}
	return object
}

// Sees is like [State.Sees], for the current state.
func (s *Service) Sees(ctx context.Context, l auth.Limits, object string) (exists, seen bool, err error) {
	if !strings.HasPrefix(object, KindMirrorRule+"/") {
		return s.State().Sees(nil, l, object)
	}
	err = s.db.View(ctx, func(tx *metadb.Tx) (err error) {
		exists, seen, err = s.State().Sees(tx, l, object)
		return err
	})
	return exists, seen, err
}

// Outside is the refusal of a change to an object that is not within the limits of an operator.
func Outside(operator, object string) error {
	return Refuse(api.CodeDenied, "%s is outside of the limits of the operator %s", object, operator).
		WithHint("ask an operator without limits; ferry operator show -n %s shows the limits", operator)
}

// Unseen is the refusal of a change that refers to something that an operator with limits may not see.
// It does not tell whether that exists.
func Unseen(operator string) error {
	return Refuse(api.CodeDenied, "a part of this change does not exist, or is outside of the limits of the operator "+
		"%s", operator).WithHint("ask an operator without limits; ferry operator show -n %s shows the limits", operator)
}

// CheckReference returns an error unless the caller may see the object to which its change refers. It
// comes before every other check of the object. Without limits, another check finds out whether the
// object exists.
func (s *Service) CheckReference(by Caller, kind, name string) error {
	if !by.Limits.Any() {
		return nil
	}
	exists, seen, err := s.State().Sees(nil, by.Limits, kind+"/"+name)
	if err == nil && !(exists && seen) {
		err = Unseen(by.Name)
	}
	return err
}

// hide replaces an error that names an object that the caller may not see.
func (s *Service) hide(tx *metadb.Tx, by Caller, err error) error {
	var e *Error
	if !by.Limits.Any() || !errors.As(err, &e) {
		return err
	}
	for _, object := range e.names {
		_, seen, failed := s.State().Sees(tx, by.Limits, object)
		if failed != nil {
			return failed
		}
		if !seen {
			return Unseen(by.Name)
		}
	}
	return err
}

// checkBefore returns an error if the object of a change exists, and is not within the caller's
// limits.
func (s *Service) checkBefore(tx *metadb.Tx, by Caller, object string) error {
	if by.Name == "" {
		return fmt.Errorf("change %s: nobody asked for it", object) // whose limits would be unknown
	}
	exists, seen, err := s.State().Sees(tx, by.Limits, object)
	if err == nil && exists && !seen {
		err = Outside(by.Name, object)
	}
	return err
}

// checkAfter returns an error unless the object of a change, and every row that the transaction
// wrote, are within the caller's limits, before and afterwards. So no request can lead an operator
// out of its limits, whatever it asks for.
func (s *Service) checkAfter(tx *metadb.Tx, by Caller, object string) error {
	if !by.Limits.Any() {
		return nil
	}
	old, rows := s.State(), tx.ControlRows()
	next, err := old.with(tx, rows, old.version+1)
	if err != nil {
		return err
	}
	if exists, seen, err := next.Sees(tx, by.Limits, object); err != nil || exists && !seen {
		return cmp.Or(err, Outside(by.Name, object))
	}
	for _, row := range rows {
		for _, state := range []*State{old, next} {
			if exists, seen := state.sees(by.Limits, row); exists && !seen {
				return Unseen(by.Name)
			}
		}
		if row.Table == metadb.ConnectedRegistryRow {
			if err := checkTokens(old, next, by, row.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTokens returns an error if a connected registry got a sync token or a client token that is
// not within the caller's limits.
func checkTokens(old, next *State, by Caller, name string) error {
	r := next.Registry(name)
	if r == nil {
		return nil
	}
	var had []string
	if before := old.Registry(name); before != nil {
		had = before.tokens()
	}
	for _, token := range r.tokens() {
		if !slices.Contains(had, token) && !next.SeesToken(by.Limits, token) {
			return Unseen(by.Name)
		}
	}
	return nil
}
