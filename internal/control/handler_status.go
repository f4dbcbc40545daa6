package control

import (
	"context"
	"net/http"
	"time"
)

// A SyncStatus is how a connected registry's sync goes, in its own eyes.
type SyncStatus struct {
	State        string              `json:"state" enum:"Online,Syncing,Unhealthy"`
	Time         time.Time           `json:"time" doc:"When this was so."`
	ItemsSynced  int                 `json:"itemsSynced"`
	ItemsPending int                 `json:"itemsPending"`
	ItemsFailed  int                 `json:"itemsFailed"`
	Result       *RegistrySyncResult `json:"result"`
	Details      []StatusDetail      `json:"details" nullable:"false"`
}

// An InstanceStatus is what an instance says of itself.
type InstanceStatus struct {
	Role       string      `json:"role" enum:"root,connected"`
	Name       string      `json:"name,omitempty" doc:"Of the connected registry."`
	Version    string      `json:"version" doc:"Of the program."`
	InstanceID string      `json:"instanceId"`
	Sync       *SyncStatus `json:"sync,omitempty"`
}

func (a *api) status() {
	register(a, operation{http.MethodGet, "/status", "get-status", "Get what this instance is, and how its sync goes"},
		func(context.Context, *struct{}) (*struct{ Body InstanceStatus }, error) {
			v := InstanceStatus{Role: "root", Name: a.Service.self, Version: a.Version, InstanceID: a.Service.instance}
			if v.Name != "" {
				v.Role = "connected"
				v.Sync = a.Service.syncStatus()
			}
			return &struct{ Body InstanceStatus }{v}, nil
		})
}

func (s *Service) syncStatus() *SyncStatus {
	st := s.status()
	if st == nil {
		return nil
	}
	return &SyncStatus{
		State: st.State, Time: st.At.UTC(), ItemsSynced: st.ItemsSynced, ItemsPending: st.ItemsPending, ItemsFailed: st.ItemsFailed,
		Result: resultOf(*st), Details: detailsOf(*st),
	}
}
