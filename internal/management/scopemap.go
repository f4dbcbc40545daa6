package management

import (
	"context"
	"net/http"

	"ferry/internal/api"
)

func (h *handler) scopeMaps() {
	const path = "/scope-maps/{name}"
	register(h, operation{http.MethodGet, "/scope-maps", "list-scope-maps", "List the scope maps"},
		func(ctx context.Context, _ *struct{}) (*listing[api.ScopeMap], error) {
			return listed(h.Control.ScopeMaps(ctx))
		})
	register(h, operation{http.MethodGet, path, "get-scope-map", "Get a scope map"},
		func(ctx context.Context, in *About) (*reply[api.ScopeMap], error) {
			return scopeMapReply(h.Control.ScopeMap(ctx, in.Name))
		})
	register(h, operation{http.MethodPut, path, "put-scope-map", "Create a scope map, or replace it"},
		func(ctx context.Context, in *Put[api.ScopeMapPut]) (*reply[api.ScopeMap], error) {
			return scopeMapReply(h.Control.PutScopeMap(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodPatch, path, "update-scope-map", "Change a scope map"},
		func(ctx context.Context, in *Put[api.ScopeMapPatch]) (*reply[api.ScopeMap], error) {
			return scopeMapReply(h.Control.UpdateScopeMap(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodDelete, path, "delete-scope-map", "Delete a scope map"},
		func(ctx context.Context, in *Write) (*nothing, error) {
			return nil, h.Control.DeleteScopeMap(ctx, in.by, in.Name, in.when())
		})
}

func scopeMapReply(m api.ScopeMap, err error) (*reply[api.ScopeMap], error) {
	return &reply[api.ScopeMap]{ETag: m.ETag, Body: m}, err
}
