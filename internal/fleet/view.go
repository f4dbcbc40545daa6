package fleet

import (
	"cmp"
	"context"
	"fmt"

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
		ID: api.ConnectedRegistryID(row.Name), Name: row.Name, Type: api.TypeConnectedRegistry,
		Mode: v.Mode, Version: api.Text(h.Status.Version),
		ConnectionState: connectionState(row, v, h, s.now()), LastActivityTime: api.Time(h.SeenAt),
		Activation: activationOf(row),
		Parent: api.Parent{SyncProperties: api.SyncProperties{
			TokenID: api.TokenID(row.SyncToken), AuthType: "SyncToken",
			Schedule: v.Schedule, SyncWindow: api.Text(v.SyncWindow),
			MessageTTL:   v.MessageTTL,
			LastSyncTime: api.Time(h.Status.LastSyncSuccess), Bandwidth: api.List(v.Bandwidth),
			ByteBudget: api.Text(v.ByteBudget),
			Priorities: api.List(v.Priorities), GatewayEndpoint: s.parentOf(by, row).address,
			RotatePasswordEvery: cmp.Or(v.RotatePasswordEvery, schedule.DefaultRotation),
			LastRotationTime:    api.Time(lastRotation(s.control.State().Token(row.SyncToken))),
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
			if at := h.Status.CertificateDir; at != "" {
				r.LoginServer.TLS.Certificate = &api.Certificate{Type: "LocalDirectory", Location: at}
			}
		}
	}
	if h.Status.Paused {
		r.StatusDetails = append(r.StatusDetails, api.StatusDetail{
			Type: "Sync", Code: "Paused",
			Description: "syncs were paused at the site, until they are resumed there",
			Timestamp:   h.Status.At.UTC(), CorrelationID: h.Status.InstanceID,
		})
	}
	if d := s.refusalDetail(row, h); d != nil {
		r.StatusDetails = append(r.StatusDetails, *d)
	}
	if d := s.gapDetail(row, h); d != nil {
		r.StatusDetails = append(r.StatusDetails, *d)
	}
	r.RegistrySyncResult = resultOf(row, v, h.Status)
	return r
}

// gapDetail returns the status detail about repositories that an ancestor may not sync; nil if there are
// none, or the registry reports it itself.
func (s *Service) gapDetail(row metadb.ConnectedRegistry, h lastReport) *api.StatusDetail {
	if hasDetail(h.Status, wire.PermissionGap) {
		return nil
	}
	state := s.control.State()
	r := state.Registry(row.Name)
	if r == nil {
		return nil
	}
	gaps := state.Gaps(r)
	if len(gaps) == 0 {
		return nil
	}
	text := gaps[0].String()
	if more := len(gaps) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more are missing so", more)
	}
	return &api.StatusDetail{
		Type: "Permissions", Code: wire.PermissionGap, Description: text + "; " + gaps[0].Remedy(),
		Timestamp: s.now().UTC(), CorrelationID: h.Status.InstanceID,
	}
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

// The values of the reference for a sync. The other triggers and states come from the reports.
const (
	triggerInitial = "InitialSync"
	triggerResync  = "ManualResync"
	statePending   = "Pending"
)

// resultOf returns the result of a connected registry's last sync. A resync that was asked for, and that
// the registry has not begun yet, is pending.
func resultOf(row metadb.ConnectedRegistry, v control.Spec, st wire.Status) *api.RegistrySyncResult {
	r := reportedResult(st)
	begun := st.Resync >= v.Resync
	if st.Resync == 0 { // nothing is known of an earlier build but its times
		begun = st.LastSyncStart.After(v.ResyncAt)
	}
	if v.Resync > 0 && !begun && row.InstanceID != "" {
		r.SyncTrigger, r.SyncState, r.LastSyncStartTime = triggerResync, statePending, api.Time(v.ResyncAt)
	}
	return r
}

// reportedResult returns the result of the last sync in a report.
func reportedResult(st wire.Status) *api.RegistrySyncResult {
	r := &api.RegistrySyncResult{
		SyncTrigger: cmp.Or(st.SyncTrigger, triggerInitial), SyncState: cmp.Or(st.SyncState, notActivated),
		LastSyncStartTime: api.Time(st.LastSyncStart), LastSyncEndTime: api.Time(st.LastSyncEnd),
		LastSuccessfulSyncEndTime: api.Time(st.LastSyncSuccess),
	}
	if r.SyncTrigger == "Resync" { // of an earlier build
		r.SyncTrigger = triggerResync
	}
	return r
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
