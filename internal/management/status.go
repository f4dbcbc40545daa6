package management

import (
	"context"
	"net/http"

	"ferry/internal/api"
)

func (h *handler) status() {
	register(h, operation{http.MethodGet, "/status", "get-status", "Get what this instance is, and how its sync goes"},
		func(context.Context, *struct{}) (*struct{ Body api.InstanceStatus }, error) {
			v := api.InstanceStatus{Role: "root", Name: h.Control.Self(), Version: h.Version, InstanceID: h.Control.InstanceID()}
			if v.Name != "" {
				v.Role = "connected"
				v.Sync = h.Fleet.SyncStatus()
			}
			return &struct{ Body api.InstanceStatus }{v}, nil
		})
}
