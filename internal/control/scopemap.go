package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// maxDescription is the limit of the reference, in characters.
const maxDescription = 256

// set copies from to to, unless from is nil.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func scopeMapOf(row metadb.ScopeMap) api.ScopeMap {
	return api.ScopeMap{
		ID: api.ScopeMapID(row.Name), Name: row.Name, Type: row.Type, Description: row.Description,
		Actions: row.Actions, AnonymousNetworks: row.AnonymousNetworks,
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
}

// ScopeMaps returns every scope map, by name.
func (s *Service) ScopeMaps(ctx context.Context) ([]api.ScopeMap, error) {
	return readAll(ctx, s, (*metadb.Tx).ScopeMaps, scopeMapOf)
}

// ScopeMap returns the scope map name.
func (s *Service) ScopeMap(ctx context.Context, name string) (api.ScopeMap, error) {
	row, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (metadb.ScopeMap, error) { return tx.ScopeMap(name) })
	return scopeMapOf(row), MapNotFound(err, "scope map", name)
}

// PutScopeMap creates a scope map, or replaces one that is not defined by the system.
func (s *Service) PutScopeMap(
	ctx context.Context, by Caller, name string, put api.ScopeMapPut, when Precondition,
) (m api.ScopeMap, err error) {
	err = s.Write(ctx, by, "write", "scope-maps/"+name, func(tx *metadb.Tx) error {
		if err := checkName("a scope map", name); err != nil {
			return err
		}
		actions, err := Normalize(put.Actions)
		if err != nil {
			return err
		}
		if len(actions) == 0 {
			return Invalid("the scope map '%s' has no actions",
				name).WithHint("example: repositories/team/app/content/read")
		}
		old, err := tx.ScopeMap(name)
		exists, err := when.CheckPut(old.Version, err, "scope map", name)
		if err != nil {
			return err
		}
		if !exists {
			n, err := tx.CountScopeMaps()
			if err != nil {
				return err
			}
			if n >= s.maxima.ScopeMaps {
				return tooMany("scope maps", n, "scope-maps")
			}
		}
		row := metadb.ScopeMap{Name: name, Type: api.UserDefined, Description: put.Description, Actions: actions,
			AnonymousNetworks: put.AnonymousNetworks, CreatedAt: s.now()}
		if m, err = s.WriteScopeMap(tx, row); err != nil {
			return err
		}
		return s.auditAnonymous(tx, by, old.AnonymousNetworks, m)
	})
	if err == nil {
		m.Warnings = append(excludedWarnings(name, m.Actions, m.Actions), s.PermissionWarnings(by, name)...)
	}
	return m, err
}

// UpdateScopeMap changes a scope map that is not defined by the system, for all its tokens.
func (s *Service) UpdateScopeMap(
	ctx context.Context, by Caller, name string, patch api.ScopeMapPatch, when Precondition,
) (m api.ScopeMap, err error) {
	var missing, added []string // missing are those of the actions to remove
	err = s.Write(ctx, by, "update", "scope-maps/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ScopeMap(name)
		if err := when.CheckChange(row.Version, err, "scope map", name); err != nil {
			return err
		}
		add, err := Normalize(patch.AddActions)
		if err != nil {
			return err
		}
		remove, err := Normalize(patch.RemoveActions)
		if err != nil {
			return err
		}
		missing, added = Without(remove, row.Actions), add
		before := row.AnonymousNetworks
		row.Actions = Union(Without(row.Actions, remove), add)
		set(&row.Description, patch.Description)
		if patch.AnonymousNetworks != nil {
			row.AnonymousNetworks = patch.AnonymousNetworks
		}
		if m, err = s.WriteScopeMap(tx, row); err != nil {
			return err
		}
		return s.auditAnonymous(tx, by, before, m)
	})
	if err == nil {
		m.Warnings = slices.Concat(
			MissingWarnings(name, missing), excludedWarnings(name, added, m.Actions), s.PermissionWarnings(by, name))
	}
	return m, err
}

// MissingWarnings returns a warning of actions that should be removed from a scope map, and were not in
// it.
func MissingWarnings(name string, missing []string) []api.Warning {
	if len(missing) == 0 {
		return nil
	}
	return []api.Warning{{
		Message: fmt.Sprintf("the scope map '%s' has no %s, so removing that changes nothing", name,
			strings.Join(missing[:min(len(missing), 5)], ", ")),
		Hint: fmt.Sprintf("see ferry scope-map show -n %s; what a pattern allows is taken away with an exclusion, "+
			"such as --add-repository '!team/app' content/read", name),
	}}
}

// WriteScopeMap writes a scope map that is not defined by the system, and returns the result.
func (s *Service) WriteScopeMap(tx *metadb.Tx, row metadb.ScopeMap) (api.ScopeMap, error) {
	if IsSystem(row) {
		return api.ScopeMap{}, Conflict("the scope map '%s' is defined by the system and cannot be changed", row.Name).
			WithHint("make another one: ferry scope-map create -n NAME --repository REPOSITORY ACTION...")
	}
	if n := utf8.RuneCountInString(row.Description); n > maxDescription {
		return api.ScopeMap{}, Invalid("the description has %d characters: at most %d are allowed", n, maxDescription)
	}
	if err := s.checkCount(row.Name, row.Actions); err != nil {
		return api.ScopeMap{}, err
	}
	networks, err := auth.ParseNetworks(row.AnonymousNetworks)
	if err != nil {
		return api.ScopeMap{}, Invalid("%v", err)
	}
	row.AnonymousNetworks = auth.NetworkTexts(networks)
	if err := s.checkAnonymous(row); err != nil {
		return api.ScopeMap{}, err
	}
	if err := tx.PutScopeMap(row); err != nil {
		return api.ScopeMap{}, err
	}
	row, err = tx.ScopeMap(row.Name)
	return scopeMapOf(row), err
}

// checkAnonymous refuses networks of a scope map that gives them nothing to pull, and of too many
// scope maps.
func (s *Service) checkAnonymous(row metadb.ScopeMap) error {
	if len(row.AnonymousNetworks) == 0 {
		return nil
	}
	a := anonymousRightsOf(&row)
	if a == nil || a.permissions.AllowsNothing() {
		return Invalid("the scope map '%s' allows to read no repository, so it can allow no anonymous pulls",
			row.Name).WithHint("allow content/read of a repository, or take the networks away: --no-anonymous")
	}
	others := s.State().anonymous
	if _, ok := others.Get(key(row.Name)); ok {
		return nil
	}
	return CheckAnonymous(others.Len() + 1)
}

// auditAnonymous writes an audit entry if the networks of a scope map changed.
func (s *Service) auditAnonymous(tx *metadb.Tx, by Caller, before []string, m api.ScopeMap) error {
	if slices.Equal(before, m.AnonymousNetworks) {
		return nil
	}
	from := cmp.Or(strings.Join(m.AnonymousNetworks, " "), "nowhere")
	return s.AuditNote(by.Actor(), by.Sender, "allow-anonymous", "scope-maps/"+m.Name, "from "+from)(tx)
}

// DeleteScopeMap deletes a scope map that is not defined by the system. Its tokens stay, without
// rights. The scope map of a sync token cannot be deleted.
func (s *Service) DeleteScopeMap(ctx context.Context, by Caller, name string, when Precondition) error {
	return s.Write(ctx, by, "delete", "scope-maps/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ScopeMap(name)
		if err := when.CheckChange(row.Version, err, "scope map", name); err != nil {
			return err
		}
		if IsSystem(row) {
			return Conflict("the scope map '%s' is defined by the system and cannot be deleted", name).
				WithHint("it has no effect unless a token uses it: ferry token update -n TOKEN --scope-map NAME")
		}
		return s.dropScopeMap(tx, name)
	})
}

func (s *Service) dropScopeMap(tx *metadb.Tx, name string) error {
	tokens, err := tx.TokensOf(name)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if r := s.State().SyncedBy(t.Name); r != nil {
			return Conflict("the scope map '%s' belongs to the sync token of the connected registry '%s'",
				name, r.Name).
				WithHint("delete the connected registry first: ferry connected-registry delete -n %s --cleanup",
					r.Name).Naming(KindRegistry + "/" + r.Name)
		}
		t.ScopeMap = ""
		if err := tx.PutToken(t); err != nil {
			return err
		}
	}
	return tx.DeleteScopeMap(name)
}

// IsSystem reports whether a scope map is defined by the system.
func IsSystem(row metadb.ScopeMap) bool {
	return row.Type == api.SystemDefined || strings.HasPrefix(row.Name, "_")
}

// putSystemScopeMaps creates the scope maps that every registry has in the reference.
func (s *Service) putSystemScopeMaps(tx *metadb.Tx) error {
	for _, m := range []metadb.ScopeMap{
		{Name: "_repositories_admin", Description: "Can perform all read, write and delete operations on the registry",
			Actions: []string{"repositories/*/metadata/read", "repositories/*/metadata/write",
				"repositories/*/content/read", "repositories/*/content/write", "repositories/*/content/delete"}},
		{Name: "_repositories_pull", Description: "Can pull any repository of the registry",
			Actions: []string{"repositories/*/content/read", "repositories/*/metadata/read"}},
		{Name: "_repositories_push", Description: "Can push to any repository of the registry",
			Actions: []string{"repositories/*/content/read", "repositories/*/content/write",
				"repositories/*/metadata/read"}},
	} {
		old, err := OrNil(tx.ScopeMap(m.Name))
		if err == nil && old == nil {
			m.Type, m.CreatedAt = api.SystemDefined, s.now()
			err = tx.PutScopeMap(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
