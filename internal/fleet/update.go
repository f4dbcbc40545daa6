package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// Update changes a connected registry. The change reaches it with its next poll.
func (s *Service) Update(ctx context.Context, by control.Caller, name string, patch api.RegistryPatch,
	when control.Precondition) (api.ConnectedRegistry, error) {
	return s.change(ctx, by, "update", name, when, func(tx *metadb.Tx, v *control.Spec) error {
		former := control.FormerSchedule{Schedule: v.Schedule, SyncWindow: v.SyncWindow, Until: s.now().UTC()}
		if err := changeSettings(&v.Spec, patch.Settings); err != nil {
			return err
		}
		changed := v.Schedule != former.Schedule || v.SyncWindow != former.SyncWindow
		if unheard := v.Former != nil && s.reports.of(name).SeenAt.Before(v.Former.Until); changed && !unheard {
			v.Former = &former
		}
		if err := s.checkTokenReferences(by, patch.AddClientTokens); err != nil {
			return err
		}
		if err := s.applyLists(tx, patch, v); err != nil || len(patch.AddClientTokens) == 0 {
			return err
		}
		state := s.control.State() // as it is in this transaction
		return s.checkRoom(state, state.Ancestors(name), v.ClientTokens)
	})
}

// change writes a connected registry as edit modifies it, and returns the result. The verb is for
// the audit log.
func (s *Service) change(
	ctx context.Context, by control.Caller, verb, name string, when control.Precondition,
	edit func(*metadb.Tx, *control.Spec) error,
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
	return s.withSummary(ctx, by, r, err)
}

// applyLists changes the client tokens and the notifications.
func (s *Service) applyLists(tx *metadb.Tx, p api.RegistryPatch, v *control.Spec) error {
	if err := checkNoOverlap("client token", p.AddClientTokens, p.RemoveClientTokens); err != nil {
		return err
	}
	if err := checkNoOverlap("notification", p.AddNotifications, p.RemoveNotifications); err != nil {
		return err
	}
	added, err := s.checkClientTokens(tx, p.AddClientTokens)
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
	if err := s.checkTokenCount(len(v.ClientTokens)); err != nil {
		return err
	}
	v.Notifications, err = s.notifications(control.Union(control.Without(v.Notifications, p.RemoveNotifications),
		p.AddNotifications))
	return err
}

// checkNoOverlap returns an error if a value is both added and removed.
func checkNoOverlap(noun string, add, remove []string) error {
	for _, v := range add {
		if slices.Contains(remove, v) {
			return control.Invalid("update ambiguity: the %s '%.100s' is both added and removed", noun, v)
		}
	}
	return nil
}

// Deactivate ends the activation of a connected registry, so that another instance can activate it.
func (s *Service) Deactivate(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	return s.change(ctx, by, "deactivate", name, control.Precondition{}, func(tx *metadb.Tx, v *control.Spec) error {
		v.Epoch++
		return tx.SetActivation(name, "") // the last report stays
	})
}

// Resync makes a connected registry request a listing of every repository, and compare all of its
// content with it.
func (s *Service) Resync(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	return s.resync(ctx, by, name, func(*control.Spec) {})
}

// ResyncAndVerify is like [Service.Resync], and makes the connected registry read all of its
// content again, too.
func (s *Service) ResyncAndVerify(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	return s.resync(ctx, by, name, func(v *control.Spec) { v.Verify++ })
}

func (s *Service) resync(
	ctx context.Context, by control.Caller, name string, more func(*control.Spec),
) (api.ConnectedRegistry, error) {
	r, err := s.change(ctx, by, "resync", name, control.Precondition{}, func(_ *metadb.Tx, v *control.Spec) error {
		v.Resync++
		v.ResyncAt = s.now().UTC().Truncate(time.Second)
		more(v)
		return nil
	})
	if err == nil {
		r.Warnings = s.offlineWarnings(by, r)
	}
	return r, err
}

// offlineWarnings returns warnings of a connected registry that is asked for a resync, or that has
// descendants, and is offline. The original refuses a resync then.
func (s *Service) offlineWarnings(by control.Caller, r api.ConnectedRegistry) (all []api.Warning) {
	if r.ConnectionState == api.Offline {
		all = append(all, api.Warning{Message: fmt.Sprintf(
			"the connected registry '%s' is offline: the resync is recorded, and begins at its next contact", r.Name)})
	}
	var offline []string
	state := s.control.State()
	for _, d := range state.Below(r.Name) {
		if state.SeesRegistry(by.Limits, d.Name) &&
			connectionState(d.ConnectedRegistry, d.Settings, s.reports.of(d.Name), s.now()) == api.Offline {
			offline = append(offline, d.Name)
		}
	}
	if len(offline) == 0 {
		return all
	}
	text := strings.Join(offline[:min(len(offline), 5)], ", ")
	if more := len(offline) - 5; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return append(all, api.Warning{
		Message: "offline below it: " + text + ". Each gets what the resync changes at its next contact",
	})
}
