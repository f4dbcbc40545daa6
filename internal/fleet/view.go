package fleet

import (
	"context"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
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

// maxReportDelay is how late a report may be before its sender counts as offline: three polls of a
// minute each, because links are slow. A forwarded report waits for the polls of each registry that
// forwards it.
const maxReportDelay = 3 * time.Minute

// connectionState returns the state of a connected registry at now: the one in its last report, or
// Offline if a report is overdue. Outside of its sync windows no report is due.
func connectionState(row metadb.ConnectedRegistry, v control.Spec, h lastReport, now time.Time) string {
	if row.InstanceID == "" || h.SeenAt.IsZero() {
		return api.Offline
	}
	due := h.SeenAt
	if cron, err := schedule.ParseCron(v.Schedule); err == nil && !cron.Continuous() {
		due = cron.Next(h.SeenAt)
	}
	if !due.IsZero() && now.After(due.Add(time.Duration(1+h.Hops)*maxReportDelay)) {
		return api.Offline
	}
	switch h.Status.State {
	case api.Syncing, api.Unhealthy:
		return h.Status.State
	}
	return api.Online
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
	return s.withVerdict(ctx, r, err)
}

func (s *Service) readRegistry(tx *metadb.Tx, by control.Caller, name string) (api.ConnectedRegistry, error) {
	row, err := tx.ConnectedRegistry(name)
	if err != nil {
		return api.ConnectedRegistry{}, control.MapNotFound(err, "connected registry", name)
	}
	v, err := control.SpecOf(row)
	return s.registryOf(by, row, v), err
}

// List returns the connected registries below parent, each followed by its descendants, or only the
// children of parent. "" is the top of the tree.
func (s *Service) List(ctx context.Context, by control.Caller, parent string,
	direct bool) ([]api.ConnectedRegistry, error) {
	state := s.control.State()
	var some []*control.Registry
	switch {
	case parent == "":
		for _, r := range state.Tops() {
			if some = append(some, r); !direct {
				some = append(some, state.Below(r.Name)...)
			}
		}
	case state.Registry(parent) == nil:
		return nil, control.MapNotFound(metadb.ErrNotFound, "connected registry", parent)
	case direct:
		some = state.Children(parent)
	default:
		some = state.Below(parent)
	}
	all := []api.ConnectedRegistry{}
	for _, r := range some {
		all = append(all, s.registryOf(by, r.ConnectedRegistry, r.Settings))
	}
	return all, s.setVerdicts(ctx, all)
}
