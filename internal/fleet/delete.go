package fleet

import (
	"context"
	"fmt"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// Delete deletes a connected registry that has no children. With cleanup it also deletes the sync
// token and its scope map, unless others use them, and removes the actions on its gateway from its
// ancestors' scope maps. Without it, the result has the commands that do that. The instance at the site
// keeps running; it learns that its parent does not know it any more.
func (s *Service) Delete(ctx context.Context, by control.Caller, name string, cleanup bool,
	when control.Precondition) (result api.RegistryDeletion, err error) {
	err = s.control.Write(ctx, by, "delete", "connected-registries/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(name)
		if err := when.CheckChange(row.Version, err, "connected registry", name); err != nil {
			return err
		}
		state := s.control.State()
		if err := checkNoChildren(state, row); err != nil {
			return err
		}
		if err := tx.DeleteConnectedRegistry(row.Name); err != nil {
			return err
		}
		l, err := s.leftoversOf(tx, row)
		if err != nil {
			return err
		}
		if !cleanup {
			result.Leftovers = l.commands()
			return nil
		}
		result.Warnings = l.warnings()
		return s.cleanup(tx, l)
	})
	if err == nil {
		s.forgetIfDeleted(name)
	}
	return result, err
}

func checkNoChildren(state *control.State, row metadb.ConnectedRegistry) error {
	children := state.Children(row.Name)
	if len(children) == 0 {
		return nil
	}
	var names []string
	for _, c := range children[:min(len(children), 5)] {
		names = append(names, c.Name)
	}
	err := control.Conflict("the connected registry '%s' has others below it: %s", row.Name, strings.Join(names, ", ")).
		WithHint("delete those first: ferry connected-registry delete -n %s", names[0])
	for _, name := range names {
		err.Naming(control.KindRegistry + "/" + name)
	}
	return err
}

// leftovers are what remains of a deleted connected registry.
type leftovers struct {
	name            string   // of the connected registry
	token, scopeMap string   // that nobody else uses; "" if there is none
	sharedToken     string   // a sync token that is kept, because others use it; "" if it is not shared
	sharedScopeMap  string   // the same for its scope map
	gateways        []string // the other scope maps with actions on its gateway
}

// leftoversOf returns the leftovers of a connected registry, whose row is deleted already.
func (s *Service) leftoversOf(tx *metadb.Tx, row metadb.ConnectedRegistry) (l leftovers, err error) {
	l.name = row.Name
	state := s.control.State()
	token, err := control.OrNil(tx.Token(row.SyncToken))
	if err != nil {
		return l, err
	}
	if token != nil {
		if state.UsedByOthers(token.Name, row.Name) {
			l.sharedToken, l.sharedScopeMap = token.Name, token.ScopeMap
		} else if l.token, err = token.Name, l.addScopeMap(tx, *token); err != nil {
			return l, err
		}
	}
	if l.sharedScopeMap != "" {
		l.gateways = append(l.gateways, l.sharedScopeMap)
	}
	for _, a := range state.Ancestors(row.Parent) {
		token, err := control.OrNil(tx.Token(a.SyncToken))
		if err != nil {
			return l, err
		}
		if token != nil && token.ScopeMap != "" {
			l.gateways = append(l.gateways, token.ScopeMap)
		}
	}
	l.gateways = control.Union(nil, l.gateways)
	return l, nil
}

// addScopeMap adds the scope map of the sync token.
func (l *leftovers) addScopeMap(tx *metadb.Tx, token metadb.Token) error {
	m, err := control.OrNil(tx.ScopeMap(token.ScopeMap))
	if m == nil || control.IsSystem(*m) {
		return err
	}
	users, err := tx.TokensOf(m.Name)
	if len(users) > 1 {
		l.sharedScopeMap = m.Name
	} else {
		l.scopeMap = m.Name
	}
	return err
}

// commands returns the commands that delete the leftovers.
func (l leftovers) commands() (all []string) {
	if l.token != "" {
		all = append(all, "token delete --yes -n "+l.token)
	}
	if l.scopeMap != "" {
		all = append(all, "scope-map delete --yes -n "+l.scopeMap)
	}
	for _, m := range l.gateways {
		all = append(all, fmt.Sprintf("scope-map update -n %s --remove-gateway %s config/read config/write "+
			"message/read message/write", m, l.name))
	}
	return all
}

// warnings returns what a cleanup leaves, because others use it.
func (l leftovers) warnings() (all []api.Warning) {
	if l.sharedToken != "" {
		all = append(all, api.Warning{Message: fmt.Sprintf(
			"the token '%s' is kept, because it is a client token of another connected registry", l.sharedToken)})
	}
	if l.sharedScopeMap != "" && l.sharedToken == "" {
		all = append(all, api.Warning{Message: fmt.Sprintf(
			"the scope map '%s' is kept, because other tokens have it, too", l.sharedScopeMap)})
	}
	return all
}

// cleanup deletes the leftovers.
func (s *Service) cleanup(tx *metadb.Tx, l leftovers) error {
	for _, name := range l.gateways {
		m, err := control.OrNil(tx.ScopeMap(name))
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		m.Actions = control.Without(m.Actions, gatewayActions(l.name))
		if err := tx.PutScopeMap(*m); err != nil {
			return err
		}
	}
	if l.token != "" {
		if err := s.control.DropToken(tx, l.token); err != nil {
			return err
		}
	}
	if l.scopeMap == "" {
		return nil
	}
	return tx.DeleteScopeMap(l.scopeMap)
}
