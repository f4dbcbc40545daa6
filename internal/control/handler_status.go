package control

import (
	"context"
	"net/http"
)

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
