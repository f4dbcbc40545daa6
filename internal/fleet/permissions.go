package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// modeActions are the actions on repositories that a connected registry needs for its mode.
func modeActions(mode string) []auth.Action {
	if mode == api.ReadWrite {
		return []auth.Action{
			auth.ContentRead, auth.ContentWrite, auth.ContentDelete, auth.MetadataRead, auth.MetadataWrite,
		}
	}
	return []auth.Action{auth.ContentRead, auth.MetadataRead}
}

// textOf returns actions as a list for people.
func textOf(actions []auth.Action) string {
	var all []string
	for _, a := range actions {
		all = append(all, string(a))
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// repositoryActions returns the actions on each of the repositories that a mode needs. A repository may
// be a pattern or an exclusion.
func repositoryActions(repositories []string, mode string) []string {
	var all []string
	for _, r := range repositories {
		for _, a := range modeActions(mode) {
			all = append(all, auth.OnRepository+"/"+r+"/"+string(a))
		}
	}
	return all
}

// gatewayActions returns the actions that a connected registry needs on its gateway. Scope maps
// have its name in lower case.
func gatewayActions(name string) []string {
	var all []string
	for _, a := range []auth.Action{auth.ConfigRead, auth.ConfigWrite, auth.MessageRead, auth.MessageWrite} {
		all = append(all, auth.OnGateway+"/"+strings.ToLower(name)+"/"+string(a))
	}
	return all
}

// checkRepositories returns an error unless each name is a repository, a pattern or an exclusion, so that
// the error names the repository, and not an action.
func checkRepositories(names []string) error {
	for _, name := range names {
		if err := auth.CheckRule(name); err != nil {
			return control.Invalid("%v", err)
		}
	}
	return nil
}

// Permissions returns the scope map of a connected registry's sync token.
func (s *Service) Permissions(ctx context.Context, by control.Caller, name string) (m api.ScopeMap, err error) {
	scopeMap, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (string, error) {
		row, err := tx.ConnectedRegistry(name)
		if err != nil {
			return "", control.MapNotFound(err, "connected registry", name)
		}
		return syncScopeMap(tx, row)
	})
	if err == nil && !s.control.State().SeesScopeMap(by.Limits, scopeMap) {
		err = control.MapNotFound(metadb.ErrNotFound, "scope map", scopeMap)
	}
	if err != nil {
		return m, err
	}
	return s.control.ScopeMap(ctx, scopeMap)
}

// syncScopeMap returns the name of the scope map of a connected registry's sync token.
func syncScopeMap(tx *metadb.Tx, row metadb.ConnectedRegistry) (string, error) {
	token, err := tx.Token(row.SyncToken)
	if err != nil {
		return "", control.MapNotFound(err, "sync token", row.SyncToken)
	}
	if token.ScopeMap == "" {
		return "", control.Conflict("the sync token '%s' has no scope map", token.Name).
			WithHint("give it one: ferry token update -n %s --scope-map NAME", token.Name)
	}
	return token.ScopeMap, nil
}

// UpdatePermissions changes which repositories a connected registry may sync, in one transaction. It
// adds the actions that the registry's mode needs to its scope map and to those of all its ancestors.
// It removes every action on a repository from its scope map and from those of all its descendants,
// and from no others. The result is the registry's own scope map.
func (s *Service) UpdatePermissions(ctx context.Context, by control.Caller, name string, patch api.PermissionsPatch,
	when control.Precondition) (m api.ScopeMap, err error) {
	var missing []string
	err = s.control.Write(ctx, by, "update-permissions", "connected-registries/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(name)
		if err != nil {
			return control.MapNotFound(err, "connected registry", name)
		}
		u, err := s.newPermissionsUpdate(tx, row, patch)
		if err != nil {
			return err
		}
		own, err := tx.ScopeMap(u.scopeMap)
		if err := when.CheckChange(own.Version, err, "scope map", u.scopeMap); err != nil {
			return err
		}
		missing = u.missing(own.Actions)
		if err := u.remove(tx); err != nil {
			return err
		}
		if err := u.add(tx); err != nil {
			return err
		}
		m.Name = u.scopeMap
		return nil
	})
	if err != nil {
		return m, err
	}
	if m, err = s.control.ScopeMap(ctx, m.Name); err == nil {
		m.Warnings = append(control.MissingWarnings(m.Name, missing), s.control.PermissionWarnings(by, m.Name)...)
		m.Warnings = append(m.Warnings, stillAllowed(name, m, patch.Remove)...)
	}
	return m, err
}

// stillAllowed returns a warning of each removed repository that a pattern in the connected registry's
// scope map still allows.
func stillAllowed(registry string, m api.ScopeMap, removed []string) (all []api.Warning) {
	have, err := auth.ParsePermissions(m.Actions)
	if err != nil {
		return nil
	}
	for _, r := range removed {
		if _, isExclusion := auth.Excluded(r); !isExclusion && have.AllowsRepository(r, auth.ContentRead) {
			all = append(all, api.Warning{
				Message: fmt.Sprintf("'%s' still syncs '%s', because a pattern in its permissions includes it",
					registry, r),
				Hint: fmt.Sprintf("ferry connected-registry permissions update -n %s --add '!%s'", registry, r),
			})
		}
	}
	return all
}

// A permissionsUpdate is a change of the repositories that one connected registry may sync.
type permissionsUpdate struct {
	s                      *Service
	state                  *control.State
	row                    metadb.ConnectedRegistry
	scopeMap               string // of its sync token
	added, excluded        []string
	removed                []string
	noLongerExcluded       []string // what the removed exclusions cover, as actions
	ancestors, descendants []*control.Registry
}

// newPermissionsUpdate makes all checks that need no writes.
func (s *Service) newPermissionsUpdate(
	tx *metadb.Tx, row metadb.ConnectedRegistry, patch api.PermissionsPatch,
) (u *permissionsUpdate, err error) {
	if len(patch.Add)+len(patch.Remove) == 0 {
		return nil, control.Invalid("nothing to change: want --add or --remove")
	}
	if err := checkNoOverlap("repository", patch.Add, patch.Remove); err != nil {
		return nil, err
	}
	if err := checkRepositories(slices.Concat(patch.Add, patch.Remove)); err != nil {
		return nil, err
	}
	v, err := control.SpecOf(row)
	if err != nil {
		return nil, err
	}
	u = &permissionsUpdate{s: s, state: s.control.State(), row: row}
	if u.scopeMap, err = syncScopeMap(tx, row); err != nil {
		return nil, err
	}
	for _, r := range patch.Add {
		if _, isExclusion := auth.Excluded(r); isExclusion {
			u.excluded = append(u.excluded, repositoryActions([]string{r}, v.Mode)...)
		}
		u.added = append(u.added, repositoryActions([]string{r}, v.Mode)...)
	}
	for _, r := range patch.Remove {
		if pattern, isExclusion := auth.Excluded(r); isExclusion {
			u.noLongerExcluded = append(u.noLongerExcluded, repositoryActions([]string{pattern}, v.Mode)...)
		}
		u.removed = append(u.removed, repositoryActions([]string{r}, api.ReadWrite)...)
	}
	u.ancestors, u.descendants = u.state.Ancestors(row.Parent), u.state.Below(row.Name)
	return u, nil
}

// missing returns the repositories to remove that are not in the scope map's actions, each as one
// action.
func (u *permissionsUpdate) missing(have []string) (all []string) {
	each := len(modeActions(api.ReadWrite))
	for actions := range slices.Chunk(u.removed, each) {
		if len(control.Without(actions, have)) == each {
			all = append(all, actions[0])
		}
	}
	return all
}

// add adds actions to the scope map and to those of all ancestors. An exclusion that is added holds for
// this connected registry; an ancestor gets it only with a permission that it limits.
func (u *permissionsUpdate) add(tx *metadb.Tx) error {
	if err := u.s.grant(tx, u.scopeMap, u.added, nil); err != nil {
		return err
	}
	if len(u.excluded) > 0 {
		if err := u.s.changeActions(tx, u.scopeMap, func(have []string) []string {
			return control.Union(have, u.excluded)
		}); err != nil {
			return err
		}
	}
	added := u.added
	if len(u.excluded) == len(added) {
		added = nil // an ancestor needs no exclusions alone
	}
	if len(added)+len(u.noLongerExcluded) == 0 {
		return nil
	}
	for _, a := range u.ancestors {
		scopeMap, err := syncScopeMap(tx, a.ConnectedRegistry)
		if err != nil {
			return err
		}
		if err := u.s.grant(tx, scopeMap, added, nil); err != nil {
			return err
		}
		if err := u.s.grantMissing(tx, scopeMap, u.noLongerExcluded); err != nil {
			return err
		}
	}
	return nil
}

// remove removes actions from the scope map and from those of all descendants. A removed exclusion is a
// right more, so that it is removed here only.
func (u *permissionsUpdate) remove(tx *metadb.Tx) error {
	if len(u.removed) == 0 {
		return nil
	}
	err := u.s.changeActions(tx, u.scopeMap, func(have []string) []string { return control.Without(have, u.removed) })
	if err != nil {
		return err
	}
	permissions := slices.DeleteFunc(slices.Clone(u.removed), func(a string) bool {
		return strings.HasPrefix(a, auth.OnRepository+"/!")
	})
	for _, d := range u.descendants {
		token, err := control.OrNil(tx.Token(d.SyncToken))
		if err != nil {
			return err
		}
		if token == nil || token.ScopeMap == "" {
			continue // it has no permissions
		}
		err = u.s.changeActions(tx, token.ScopeMap, func(have []string) []string {
			return control.Without(have, permissions)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// grant grants actions on repositories to a scope map, and adds actions on gateways.
func (s *Service) grant(tx *metadb.Tx, scopeMap string, actions, gateways []string) error {
	row, err := tx.ScopeMap(scopeMap)
	if err != nil {
		return control.MapNotFound(err, "scope map", scopeMap)
	}
	all, err := control.Grant(scopeMap, row.Actions, actions)
	if err != nil {
		return err
	}
	return s.writeActions(tx, row, control.Union(all, gateways))
}

// grantMissing grants those of the actions that a scope map does not allow.
func (s *Service) grantMissing(tx *metadb.Tx, scopeMap string, actions []string) error {
	row, err := tx.ScopeMap(scopeMap)
	if err != nil {
		return control.MapNotFound(err, "scope map", scopeMap)
	}
	have, err := auth.ParsePermissions(row.Actions)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(actions), func(text string) bool {
		_, pattern, action, err := auth.ParseAction(text)
		return err == nil && have.AllowsRepository(pattern, action)
	})
	return s.grant(tx, scopeMap, missing, nil)
}

// changeActions replaces the actions of a scope map with the result of edit.
func (s *Service) changeActions(tx *metadb.Tx, scopeMap string, edit func(have []string) []string) error {
	row, err := tx.ScopeMap(scopeMap)
	if err != nil {
		return control.MapNotFound(err, "scope map", scopeMap)
	}
	return s.writeActions(tx, row, edit(row.Actions))
}

// writeActions writes a scope map with other actions, unless they are the same.
func (s *Service) writeActions(tx *metadb.Tx, row metadb.ScopeMap, actions []string) error {
	if slices.Equal(actions, row.Actions) {
		return nil
	}
	row.Actions = actions
	_, err := s.control.WriteScopeMap(tx, row)
	return err
}

// ClientTokens returns the client tokens of a connected registry, in their order.
func (s *Service) ClientTokens(ctx context.Context, name string) ([]api.Token, error) {
	r, err := s.readSpec(ctx, name)
	if err != nil {
		return nil, err
	}
	all := []api.Token{}
	for _, token := range r.ClientTokens {
		t, err := s.control.Token(ctx, token)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// readSpec returns the settings of the connected registry name.
func (s *Service) readSpec(ctx context.Context, name string) (control.Spec, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (control.Spec, error) {
		row, err := tx.ConnectedRegistry(name)
		if err != nil {
			return control.Spec{}, control.MapNotFound(err, "connected registry", name)
		}
		return control.SpecOf(row)
	})
}
