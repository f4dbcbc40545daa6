package fleet

import (
	"context"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// Deactivate ends the activation of the instance that holds
// a connected registry, so that another can become it.
func (s *Service) Deactivate(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	return s.change(ctx, by, "deactivate", name, control.Precondition{}, func(tx *metadb.Tx, v *control.Spec) error {
		v.Epoch++
		return tx.SetActivation(name, "") // what it last said stays known
	})
}

// Resync lets the instance that holds a connected registry
// ask for a listing of every repository, and compare with it all that it has.
func (s *Service) Resync(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	return s.change(ctx, by, "resync", name, control.Precondition{}, func(_ *metadb.Tx, v *control.Spec) error {
		v.Resync++
		return nil
	})
}

// Delete removes a connected registry that has none below
// it. With cleanup its sync token and scope map go, too, and what its
// ancestors were allowed because of its gateway. What runs at the site stays
// as it is, and finds that its parent knows it no longer.
func (s *Service) Delete(ctx context.Context, by control.Caller, name string, cleanup bool, when control.Precondition) error {
	err := s.control.Write(ctx, by, "delete", "connected-registries/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(name)
		if err := when.CheckChange(row.Version, err, "connected registry", name); err != nil {
			return err
		}
		state := s.control.State()
		if children := state.Children(row.Name); len(children) > 0 {
			var names []string
			for _, c := range children[:min(len(children), 5)] {
				names = append(names, c.Name)
			}
			return control.Conflict("the connected registry '%s' has others below it: %s", row.Name, strings.Join(names, ", ")).
				WithHint("delete those first")
		}
		if err := tx.DeleteConnectedRegistry(row.Name); err != nil {
			return err
		}
		if !cleanup {
			return nil
		}
		return s.cleanup(tx, row, state.Ancestors(row.Parent))
	})
	if err == nil {
		s.reports.drop(name)
	}
	return err
}

// cleanup removes what was made for a connected registry that is gone. What
// was removed by hand before is no error.
func (s *Service) cleanup(tx *metadb.Tx, row metadb.ConnectedRegistry, ancestors []*control.Registry) error {
	for _, a := range ancestors {
		if err := forgetGateway(tx, a.SyncToken, row.Name); err != nil {
			return err
		}
	}
	token, err := control.OrNil(tx.Token(row.SyncToken))
	if token == nil {
		return err
	}
	if err := s.control.DropToken(tx, token.Name); err != nil {
		return err
	}
	others, err := tx.TokensOf(token.ScopeMap)
	if err != nil || len(others) > 0 {
		return err
	}
	m, err := control.OrNil(tx.ScopeMap(token.ScopeMap))
	if m == nil || control.IsSystem(*m) {
		return err
	}
	return tx.DeleteScopeMap(m.Name)
}

// forgetGateway takes the gateway of a connected registry from a token's scope map.
func forgetGateway(tx *metadb.Tx, token, name string) error {
	t, err := control.OrNil(tx.Token(token))
	if t == nil {
		return err
	}
	m, err := control.OrNil(tx.ScopeMap(t.ScopeMap))
	if m == nil {
		return err
	}
	m.Actions = control.Without(m.Actions, gatewayActions(name))
	return tx.PutScopeMap(*m)
}
