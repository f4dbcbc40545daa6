package fleet

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// Activate binds an instance to the connected registry name, which is right
// below this one. Implements [gateway.ControlPlane].
func (s *Service) Activate(ctx context.Context, name, instance, version string) error {
	if r, err := s.child(s.control.State(), name); err != nil || r.InstanceID == instance {
		return err
	}
	var v lastReport
	err := s.control.Change(ctx, func(tx *metadb.Tx) error {
		r, err := s.child(s.control.State(), name) // as it is in this transaction
		if err != nil {
			return err
		}
		if r.InstanceID != "" && r.InstanceID != instance {
			return gateway.ErrAlreadyActivated
		}
		now := s.now().UTC()
		v = lastReport{SeenAt: now, Status: wire.Status{
			Name: r.Name, InstanceID: instance, Epoch: r.Settings.Epoch, Version: clip(version, 64),
			State: api.Online, At: now, SyncState: "Pending",
		}}
		if err := v.write(tx, r.Name); err != nil {
			return err
		}
		if err := tx.SetActivation(r.Name, instance); err != nil {
			return err
		}
		return s.control.Audit(tx, control.Caller{Name: r.SyncToken}, "activate", "connected-registries/"+r.Name)
	})
	if err == nil {
		s.reports.set(name, v)
	}
	return err
}
