package control

import (
	"context"
	"net/http"
)

func (a *api) scopeMaps() {
	const path = "/scope-maps/{name}"
	register(a, operation{http.MethodGet, "/scope-maps", "list-scope-maps", "List the scope maps"},
		func(ctx context.Context, _ *struct{}) (*listing[ScopeMap], error) {
			return listed(a.Service.ScopeMaps(ctx))
		})
	register(a, operation{http.MethodGet, path, "get-scope-map", "Get a scope map"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*reply[ScopeMap], error) {
			return scopeMapReply(a.Service.ScopeMap(ctx, in.Name))
		})
	register(a, operation{http.MethodPut, path, "put-scope-map", "Create a scope map, or replace it"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body ScopeMapPut
		}) (*reply[ScopeMap], error) {
			return scopeMapReply(a.Service.PutScopeMap(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodPatch, path, "update-scope-map", "Change a scope map"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body ScopeMapPatch
		}) (*reply[ScopeMap], error) {
			return scopeMapReply(a.Service.UpdateScopeMap(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodDelete, path, "delete-scope-map", "Delete a scope map"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
		}) (*nothing, error) {
			return nil, a.Service.DeleteScopeMap(ctx, in.by, in.Name, in.when())
		})
}

func scopeMapReply(m ScopeMap, err error) (*reply[ScopeMap], error) {
	return &reply[ScopeMap]{ETag: etag(m.version), Body: m}, err
}
