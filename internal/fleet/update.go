package fleet

import (
	"context"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// Update changes a connected registry. The site learns of it
// with its next poll.
func (s *Service) Update(ctx context.Context, by control.Caller, name string, patch api.RegistryPatch, when control.Precondition) (api.ConnectedRegistry, error) {
	return s.change(ctx, by, "update", name, when, func(tx *metadb.Tx, v *control.Spec) error {
		if err := changeSettings(&v.Spec, patch.Settings); err != nil {
			return err
		}
		return applyLists(tx, patch, v)
	})
}

// change writes a connected registry as edit leaves it, and returns it as it is
// then. The verb is for the audit log.
func (s *Service) change(
	ctx context.Context, by control.Caller, verb, name string, when control.Precondition, edit func(*metadb.Tx, *control.Spec) error,
) (r api.ConnectedRegistry, err error) {
	err = s.control.Write(ctx, by, verb, "connected-registries/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(name)
		if err := when.CheckChange(row.Version, err, "connected registry", name); err != nil {
			return err
		}
		v, err := control.SpecOf(row)
		if err != nil {
			return err
		}
		if err := edit(tx, &v); err != nil {
			return err
		}
		if err := control.PutSpec(tx, row, v); err != nil {
			return err
		}
		r, err = s.readRegistry(tx, by, name)
		return err
	})
	return r, err
}

// lists changes the client tokens and the notifications.
func applyLists(tx *metadb.Tx, p api.RegistryPatch, v *control.Spec) error {
	if err := unambiguous("client token", p.AddClientTokens, p.RemoveClientTokens); err != nil {
		return err
	}
	if err := unambiguous("notification", p.AddNotifications, p.RemoveNotifications); err != nil {
		return err
	}
	added, err := checkClientTokens(tx, p.AddClientTokens)
	if err != nil {
		return err
	}
	for _, t := range p.RemoveClientTokens {
		t = strings.TrimPrefix(t, api.TokenID(""))
		v.ClientTokens = slices.DeleteFunc(v.ClientTokens, func(have string) bool { return have == t })
	}
	for _, t := range added {
		if !slices.Contains(v.ClientTokens, t) {
			v.ClientTokens = append(v.ClientTokens, t)
		}
	}
	if len(v.ClientTokens) > maxClientTokens {
		return control.Invalid("%d client tokens are too many: at most %d are allowed", len(v.ClientTokens), maxClientTokens)
	}
	v.Notifications, err = notifications(control.Union(control.Without(v.Notifications, p.RemoveNotifications), p.AddNotifications))
	return err
}

// unambiguous returns an error when something is to come and to go.
func unambiguous(what string, add, remove []string) error {
	for _, v := range add {
		if slices.Contains(remove, v) {
			return control.Invalid("update ambiguity: the %s '%.100s' is to be added and to be removed", what, v)
		}
	}
	return nil
}
