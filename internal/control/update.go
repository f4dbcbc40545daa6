package control

import (
	"context"
	"slices"
	"strings"

	"ferry/internal/metadb"
)

// A RegistryPatch is what is to change of a connected registry.
type RegistryPatch struct {
	AddClientTokens     []string `json:"addClientTokens,omitempty" maxItems:"1000"`
	RemoveClientTokens  []string `json:"removeClientTokens,omitempty" maxItems:"1000"`
	AddNotifications    []string `json:"addNotifications,omitempty" maxItems:"100"`
	RemoveNotifications []string `json:"removeNotifications,omitempty" maxItems:"100"`
	Settings
}

// UpdateConnectedRegistry changes a connected registry. The site learns of it
// with its next poll.
func (s *Service) UpdateConnectedRegistry(ctx context.Context, by Caller, name string, patch RegistryPatch, when Precondition) (r ConnectedRegistry, err error) {
	err = s.write(ctx, by, "update", "connected-registries/"+name, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(name)
		if err != nil {
			return found(err, "connected registry", name)
		}
		if err := when.check(true, row.Version, "connected registry", name); err != nil {
			return err
		}
		v, err := specOf(row)
		if err != nil {
			return err
		}
		if err := patch.apply(&v); err != nil {
			return err
		}
		if err := patch.lists(tx, &v); err != nil {
			return err
		}
		if err := putSpec(tx, row, v); err != nil {
			return err
		}
		r, err = s.readRegistry(tx, by, name)
		return err
	})
	return r, err
}

// lists changes the client tokens and the notifications.
func (p RegistryPatch) lists(tx *metadb.Tx, v *spec) error {
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
		t = strings.TrimPrefix(t, tokenID(""))
		v.ClientTokens = slices.DeleteFunc(v.ClientTokens, func(have string) bool { return have == t })
	}
	for _, t := range added {
		if !slices.Contains(v.ClientTokens, t) {
			v.ClientTokens = append(v.ClientTokens, t)
		}
	}
	if len(v.ClientTokens) > maxClientTokens {
		return invalid("%d client tokens are too many: at most %d are allowed", len(v.ClientTokens), maxClientTokens)
	}
	v.Notifications, err = notifications(unite(without(v.Notifications, p.RemoveNotifications), p.AddNotifications))
	return err
}

// unambiguous returns an error when something is to come and to go.
func unambiguous(what string, add, remove []string) error {
	for _, v := range add {
		if slices.Contains(remove, v) {
			return invalid("update ambiguity: the %s '%.100s' is to be added and to be removed", what, v)
		}
	}
	return nil
}
