package control

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"ferry/internal/metadb"
)

// Limits of the reference.
const (
	maxDescription = 256 // characters
	maxScopeMaps   = 20_000
)

// The types of a scope map.
const (
	userDefined   = "UserDefined"
	systemDefined = "SystemDefined"
)

// succeeded is the provisioning state of every resource: a write is done when
// it is answered.
const succeeded = "Succeeded"

func scopeMapID(name string) string { return "/scope-maps/" + name }

func scopeMapOf(row metadb.ScopeMap) ScopeMap {
	return ScopeMap{
		ID: scopeMapID(row.Name), Name: row.Name, Type: row.Type, Description: row.Description, Actions: row.Actions,
		CreationDate: row.CreatedAt, ProvisioningState: succeeded, version: row.Version,
	}
}

// A ScopeMapPut is a scope map as it is to be.
type ScopeMapPut struct {
	Description string   `json:"description,omitempty" doc:"At most 256 characters."`
	Actions     []string `json:"actions" nullable:"false" minItems:"1" maxItems:"5000" doc:"repositories/NAME/ACTION or gateway/NAME/ACTION."`
}

// A ScopeMapPatch is what is to change. What is to go goes first.
type ScopeMapPatch struct {
	Description   *string  `json:"description,omitempty" doc:"At most 256 characters."`
	AddActions    []string `json:"addActions,omitempty" maxItems:"5000"`
	RemoveActions []string `json:"removeActions,omitempty" maxItems:"5000"`
}

// ScopeMaps returns every scope map, by name.
func (s *Service) ScopeMaps(ctx context.Context) ([]ScopeMap, error) {
	all := []ScopeMap{}
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.ScopeMaps()
		for _, row := range rows {
			all = append(all, scopeMapOf(row))
		}
		return err
	})
	return all, err
}

// ScopeMap returns the scope map name.
func (s *Service) ScopeMap(ctx context.Context, name string) (m ScopeMap, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := tx.ScopeMap(name)
		m = scopeMapOf(row)
		return found(err, "scope map", name)
	})
	return m, err
}

// PutScopeMap creates a scope map, or replaces one that a user defined.
func (s *Service) PutScopeMap(ctx context.Context, by Caller, name string, put ScopeMapPut, when Precondition) (m ScopeMap, err error) {
	err = s.write(ctx, by, "write", "scope-maps/"+name, func(tx *metadb.Tx) error {
		if err := checkScopeMapName(name); err != nil {
			return err
		}
		actions, err := normalize(put.Actions)
		if err != nil {
			return err
		}
		if len(actions) == 0 {
			return invalid("the scope map '%s' has no actions", name).hint("as in: repositories/team/app/content/read")
		}
		old, err := tx.ScopeMap(name)
		exists := err == nil
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return err
		}
		if err := when.check(exists, old.Version, "scope map", name); err != nil {
			return err
		}
		if !exists {
			n, err := tx.CountScopeMaps()
			if err != nil {
				return err
			}
			if n >= maxScopeMaps {
				return conflict("there are %d scope maps already, which is the most", n)
			}
		}
		row := metadb.ScopeMap{Name: name, Type: userDefined, Description: put.Description, Actions: actions, CreatedAt: s.now()}
		m, err = s.putScopeMap(tx, row)
		return err
	})
	return m, err
}

// UpdateScopeMap changes a scope map that a user defined, for all its tokens.
func (s *Service) UpdateScopeMap(ctx context.Context, by Caller, name string, patch ScopeMapPatch, when Precondition) (m ScopeMap, err error) {
	err = s.write(ctx, by, "update", "scope-maps/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ScopeMap(name)
		if err != nil {
			return found(err, "scope map", name)
		}
		if err := when.check(true, row.Version, "scope map", name); err != nil {
			return err
		}
		add, err := normalize(patch.AddActions)
		if err != nil {
			return err
		}
		remove, err := normalize(patch.RemoveActions)
		if err != nil {
			return err
		}
		row.Actions = unite(without(row.Actions, remove), add)
		if patch.Description != nil {
			row.Description = *patch.Description
		}
		m, err = s.putScopeMap(tx, row)
		return err
	})
	return m, err
}

// putScopeMap writes a user's scope map and returns it as it is then.
func (s *Service) putScopeMap(tx *metadb.Tx, row metadb.ScopeMap) (ScopeMap, error) {
	if isSystem(row) {
		return ScopeMap{}, conflict("the scope map '%s' is defined by the system and cannot be changed", row.Name)
	}
	if n := utf8.RuneCountInString(row.Description); n > maxDescription {
		return ScopeMap{}, invalid("the description has %d characters: at most %d are allowed", n, maxDescription)
	}
	if err := checkCount(row.Name, row.Actions); err != nil {
		return ScopeMap{}, err
	}
	if err := tx.PutScopeMap(row); err != nil {
		return ScopeMap{}, err
	}
	row, err := tx.ScopeMap(row.Name)
	return scopeMapOf(row), err
}

// DeleteScopeMap removes a scope map that a user defined. Its tokens stay,
// and may do nothing. That of a connected registry's sync token stays, too.
func (s *Service) DeleteScopeMap(ctx context.Context, by Caller, name string, when Precondition) error {
	return s.write(ctx, by, "delete", "scope-maps/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ScopeMap(name)
		if err != nil {
			return found(err, "scope map", name)
		}
		if isSystem(row) {
			return conflict("the scope map '%s' is defined by the system and cannot be deleted", name)
		}
		if err := when.check(true, row.Version, "scope map", name); err != nil {
			return err
		}
		return s.dropScopeMap(tx, name)
	})
}

func (s *Service) dropScopeMap(tx *metadb.Tx, name string) error {
	tokens, err := tx.TokensOf(name)
	if err != nil {
		return err
	}
	registries, err := tx.ConnectedRegistries()
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if r, ok := syncedBy(registries, t.Name); ok {
			return conflict("the scope map '%s' is what the connected registry '%s' syncs by", name, r.Name).
				hint("delete the connected registry first: ferry connected-registry delete -n %s --cleanup", r.Name)
		}
		t.ScopeMap = ""
		if err := tx.PutToken(t); err != nil {
			return err
		}
	}
	return tx.DeleteScopeMap(name)
}

func isSystem(row metadb.ScopeMap) bool {
	return row.Type == systemDefined || strings.HasPrefix(row.Name, "_")
}

// putSystemScopeMaps makes the scope maps of the reference that every
// registry has.
func (s *Service) putSystemScopeMaps(tx *metadb.Tx) error {
	for _, m := range []metadb.ScopeMap{
		{Name: "_repositories_admin", Description: "Can perform all read, write and delete operations on the registry",
			Actions: []string{"repositories/*/metadata/read", "repositories/*/metadata/write", "repositories/*/content/read", "repositories/*/content/write", "repositories/*/content/delete"}},
		{Name: "_repositories_pull", Description: "Can pull any repository of the registry",
			Actions: []string{"repositories/*/content/read", "repositories/*/metadata/read"}},
		{Name: "_repositories_push", Description: "Can push to any repository of the registry",
			Actions: []string{"repositories/*/content/read", "repositories/*/content/write", "repositories/*/metadata/read"}},
	} {
		if _, err := tx.ScopeMap(m.Name); err == nil {
			continue
		} else if !errors.Is(err, metadb.ErrNotFound) {
			return err
		}
		m.Type, m.CreatedAt = systemDefined, s.now()
		if err := tx.PutScopeMap(m); err != nil {
			return err
		}
	}
	return nil
}
