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
	return s.control.Update(ctx, func(tx *metadb.Tx) error {
		row, err := s.child(tx, name)
		if err != nil {
			return err
		}
		if row.InstanceID == instance {
			return nil
		}
		if row.InstanceID != "" {
			return gateway.ErrAlreadyActivated
		}
		v, err := control.SpecOf(row)
		if err != nil {
			return err
		}
		row.InstanceID = instance
		now := s.now().UTC()
		h := lastReport{SeenAt: now, Status: wire.Status{
			Name: row.Name, InstanceID: instance, Epoch: v.Epoch, Version: clip(version, 64), State: api.Online, At: now, SyncState: "Pending",
		}}
		if err := putLastReport(tx, row, h); err != nil {
			return err
		}
		return s.control.Audit(tx, control.Caller{Name: row.SyncToken}, "activate", "connected-registries/"+row.Name)
	})
}
