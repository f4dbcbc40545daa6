package control

import (
	"context"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

func registryID(name string) string { return "/connected-registries/" + name }

// registryOf returns a row as the API shows it.
func (s *Service) registryOf(by Caller, row metadb.ConnectedRegistry) (ConnectedRegistry, error) {
	v, err := specOf(row)
	if err != nil {
		return ConnectedRegistry{}, err
	}
	h, err := heardOf(row)
	if err != nil {
		return ConnectedRegistry{}, err
	}
	if s.isSelf(row.Name) {
		row.InstanceID = s.instance
		if own := s.status(); own != nil {
			h = heard{SeenAt: own.At, Status: *own}
		}
	}
	r := ConnectedRegistry{
		ID: registryID(row.Name), Name: row.Name, Mode: v.Mode, Version: text(h.Status.Version),
		ConnectionState: connectionState(row, v, h, s.now()), LastActivityTime: moment(h.SeenAt),
		Activation: activationOf(row),
		Parent: Parent{SyncProperties: SyncProperties{
			TokenID: tokenID(row.SyncToken), Schedule: v.Schedule, SyncWindow: text(v.SyncWindow), MessageTTL: v.MessageTTL,
			LastSyncTime: moment(h.Status.LastSyncEnd), Bandwidth: asList(v.Bandwidth), ByteBudget: text(v.ByteBudget), Priorities: asList(v.Priorities), GatewayEndpoint: s.endpointFor(by, row),
		}},
		ClientTokenIDs:    []string{},
		TagFilters:        asList(v.TagFilters),
		Platforms:         asList(v.Platforms),
		Logging:           Logging{LogLevel: v.LogLevel, AuditLogStatus: "Disabled"},
		StatusDetails:     detailsOf(h.Status),
		NotificationsList: asList(v.Notifications),
		GarbageCollection: GarbageCollection{Enabled: v.GCEnabled, Schedule: v.GCSchedule},
		ProvisioningState: succeeded,
		version:           row.Version,
	}
	if v.KeepLast > 0 {
		r.KeepLast = &v.KeepLast
	}
	if row.Parent != "" {
		r.Parent.ID = text(registryID(row.Parent))
	}
	for _, t := range v.ClientTokens {
		r.ClientTokenIDs = append(r.ClientTokenIDs, tokenID(t))
	}
	if h.Status.LoginServer != "" {
		r.LoginServer = &LoginServer{Host: h.Status.LoginServer, TLS: TLS{Status: "Disabled"}}
		if h.Status.TLS {
			r.LoginServer.TLS.Status = "Enabled"
		}
	}
	if h.Status.Paused {
		r.StatusDetails = append(r.StatusDetails, StatusDetail{
			Type: "Sync", Code: "Paused", Description: "somebody at the site paused syncs, until they are resumed there",
			Timestamp: h.Status.At.UTC(), CorrelationID: h.Status.InstanceID,
		})
	}
	if h.Status.SyncState != "" {
		r.RegistrySyncResult = resultOf(h.Status)
	}
	return r, nil
}

func activationOf(row metadb.ConnectedRegistry) Activation {
	if row.InstanceID == "" {
		return Activation{Status: "Inactive"}
	}
	return Activation{Status: "Active"}
}

func resultOf(st wire.Status) *RegistrySyncResult {
	return &RegistrySyncResult{
		SyncTrigger: st.SyncTrigger, SyncState: st.SyncState, LastSyncStartTime: moment(st.LastSyncStart),
		LastSyncEndTime: moment(st.LastSyncEnd), LastSuccessfulSyncEndTime: moment(st.LastSyncSuccess),
	}
}

func detailsOf(st wire.Status) []StatusDetail {
	all := []StatusDetail{}
	for _, d := range st.Details {
		all = append(all, StatusDetail{
			Type: d.Type, Code: d.Code, Description: d.Description, Timestamp: d.Timestamp.UTC(), CorrelationID: st.InstanceID,
		})
	}
	return all
}

// text is s, or null where it is empty.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// moment is t in UTC, or null where it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// ConnectedRegistry returns the connected registry name, in whatever case.
func (s *Service) ConnectedRegistry(ctx context.Context, by Caller, name string) (r ConnectedRegistry, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		r, err = s.readRegistry(tx, by, name)
		return err
	})
	return r, err
}

func (s *Service) readRegistry(tx *metadb.Tx, by Caller, name string) (ConnectedRegistry, error) {
	row, err := tx.ConnectedRegistry(name)
	if err != nil {
		return ConnectedRegistry{}, found(err, "connected registry", name)
	}
	return s.registryOf(by, row)
}

// ConnectedRegistries returns the connected registries below parent, each
// followed by those below it, or only those right below; "" is the top.
func (s *Service) ConnectedRegistries(ctx context.Context, by Caller, parent string, direct bool) ([]ConnectedRegistry, error) {
	all := []ConnectedRegistry{}
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.ConnectedRegistries()
		if err != nil {
			return err
		}
		if parent != "" {
			if _, err := tx.ConnectedRegistry(parent); err != nil {
				return found(err, "connected registry", parent)
			}
		}
		t := treeOf(rows)
		some := t.below(parent)
		if direct {
			some = t.children(parent)
		}
		for _, row := range some {
			r, err := s.registryOf(by, row)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	return all, err
}
