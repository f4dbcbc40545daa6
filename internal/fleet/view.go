package fleet

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// registryOf returns a row in the form of the API, without the verdict on its sync.
func (s *Service) registryOf(by control.Caller, row metadb.ConnectedRegistry, v control.Spec) api.ConnectedRegistry {
	h := s.reports.of(row.Name)
	if s.control.IsSelf(row.Name) {
		row.InstanceID = s.control.InstanceID()
		if own, _ := s.status(); own != nil {
			h = lastReport{SeenAt: own.At, Status: *own}
		}
	}
	r := api.ConnectedRegistry{
		ID: api.ConnectedRegistryID(row.Name), Name: row.Name, Mode: v.Mode, Version: api.Text(h.Status.Version),
		ConnectionState: connectionState(row, v, h, s.now()), LastActivityTime: api.Time(h.SeenAt),
		Activation: activationOf(row),
		Parent: api.Parent{SyncProperties: api.SyncProperties{
			TokenID: api.TokenID(row.SyncToken), Schedule: v.Schedule, SyncWindow: api.Text(v.SyncWindow),
			MessageTTL:   v.MessageTTL,
			LastSyncTime: api.Time(h.Status.LastSyncSuccess), Bandwidth: api.List(v.Bandwidth),
			ByteBudget: api.Text(v.ByteBudget),
			Priorities: api.List(v.Priorities), GatewayEndpoint: s.parentOf(by, row).address,
		}},
		ClientTokenIDs:    []string{},
		TagFilters:        api.List(v.TagFilters),
		Platforms:         api.List(v.Platforms),
		Labels:            labelsOf(v.Spec),
		Logging:           loggingOf(v),
		StatusDetails:     detailsOf(h.Status),
		LastRefusedLogin:  refusedOf(h.Status),
		NotificationsList: api.List(v.Notifications),
		GarbageCollection: api.GarbageCollection{Enabled: v.GCEnabled, Schedule: v.GCSchedule},
		ProvisioningState: api.Succeeded,
		Tagged:            api.Tagged{ETag: control.ETag(row.Version)},
	}
	if v.KeepLast > 0 {
		r.KeepLast = &v.KeepLast
	}
	if row.Parent != "" {
		r.Parent.ID = api.Text(api.ConnectedRegistryID(row.Parent))
	}
	for _, t := range v.ClientTokens {
		r.ClientTokenIDs = append(r.ClientTokenIDs, api.TokenID(t))
	}
	if h.Status.LoginServer != "" {
		r.LoginServer = &api.LoginServer{Host: h.Status.LoginServer, TLS: api.TLS{Status: "Disabled"}}
		if h.Status.TLS {
			r.LoginServer.TLS.Status = "Enabled"
		}
	}
	if h.Status.Paused {
		r.StatusDetails = append(r.StatusDetails, api.StatusDetail{
			Type: "Sync", Code: "Paused",
			Description: "syncs were paused at the site, until they are resumed there",
			Timestamp:   h.Status.At.UTC(), CorrelationID: h.Status.InstanceID,
		})
	}
	if h.Status.SyncState != "" {
		r.RegistrySyncResult = resultOf(h.Status)
	}
	return r
}

func loggingOf(v control.Spec) api.Logging {
	l := api.Logging{LogLevel: v.LogLevel, AuditLogStatus: "Disabled"}
	if v.AuditLogs {
		l.AuditLogStatus = "Enabled"
	}
	return l
}

func activationOf(row metadb.ConnectedRegistry) api.Activation {
	if row.InstanceID == "" {
		return api.Activation{Status: "Inactive"}
	}
	return api.Activation{Status: "Active"}
}

func resultOf(st wire.Status) *api.RegistrySyncResult {
	return &api.RegistrySyncResult{
		SyncTrigger: st.SyncTrigger, SyncState: st.SyncState, LastSyncStartTime: api.Time(st.LastSyncStart),
		LastSyncEndTime: api.Time(st.LastSyncEnd), LastSuccessfulSyncEndTime: api.Time(st.LastSyncSuccess),
	}
}

func detailsOf(st wire.Status) []api.StatusDetail {
	all := []api.StatusDetail{}
	for _, d := range st.Details {
		all = append(all, api.StatusDetail{
			Type: d.Type, Code: d.Code, Description: d.Description, Timestamp: d.Timestamp.UTC(),
			CorrelationID: st.InstanceID,
		})
	}
	return all
}

// Get returns the connected registry name, in any case.
func (s *Service) Get(ctx context.Context, by control.Caller, name string) (api.ConnectedRegistry, error) {
	r, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (api.ConnectedRegistry, error) {
		return s.readRegistry(tx, by, name)
	})
	return s.withSummary(ctx, by, r, err)
}

func (s *Service) readRegistry(tx *metadb.Tx, by control.Caller, name string) (api.ConnectedRegistry, error) {
	row, err := tx.ConnectedRegistry(name)
	if err != nil {
		return api.ConnectedRegistry{}, control.MapNotFound(err, "connected registry", name)
	}
	v, err := control.SpecOf(row)
	return s.registryOf(by, row, v), err
}
