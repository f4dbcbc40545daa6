package control

import (
	"context"
	"net/http"
)

func (a *api) registries() {
	const path = "/connected-registries/{name}"
	register(a, operation{http.MethodGet, "/connected-registries", "list-connected-registries", "List the connected registries, each followed by those below it"},
		func(ctx context.Context, in *struct {
			Call
			Parent   string `query:"parent" doc:"Only those below this one."`
			Children string `query:"children" enum:"all,direct" default:"all" doc:"Whether only those right below."`
		}) (*listing[ConnectedRegistry], error) {
			return listed(a.Service.ConnectedRegistries(ctx, in.by, in.Parent, in.Children == "direct"))
		})
	register(a, operation{http.MethodGet, path, "get-connected-registry", "Get a connected registry"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
		}) (*reply[ConnectedRegistry], error) {
			return registryReply(a.Service.ConnectedRegistry(ctx, in.by, in.Name))
		})
	register(a, operation{http.MethodPut, path, "create-connected-registry", "Create a connected registry, with its sync token and permissions"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body RegistryPut
		}) (*reply[ConnectedRegistry], error) {
			return registryReply(a.Service.CreateConnectedRegistry(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodPatch, path, "update-connected-registry", "Change a connected registry"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body RegistryPatch
		}) (*reply[ConnectedRegistry], error) {
			return registryReply(a.Service.UpdateConnectedRegistry(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodDelete, path, "delete-connected-registry", "Delete a connected registry; what runs at the site stays as it is"},
		func(ctx context.Context, in *struct {
			Write
			Name    string `path:"name"`
			Cleanup bool   `query:"cleanup" doc:"Delete its sync token and scope map, too, and its permissions in its ancestors'."`
		}) (*nothing, error) {
			return nil, a.Service.DeleteConnectedRegistry(ctx, in.by, in.Name, in.Cleanup, in.when())
		})
	register(a, operation{http.MethodPost, path + "/deactivate", "deactivate-connected-registry", "Let another instance become a connected registry"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
		}) (*reply[ConnectedRegistry], error) {
			return registryReply(a.Service.DeactivateConnectedRegistry(ctx, in.by, in.Name))
		})
	register(a, operation{http.MethodPost, path + "/resync", "resync-connected-registry", "Let a connected registry take a fresh snapshot at its next visit"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
		}) (*reply[ConnectedRegistry], error) {
			return registryReply(a.Service.ResyncConnectedRegistry(ctx, in.by, in.Name))
		})
	register(a, operation{http.MethodGet, path + "/sync-status", "get-sync-status", "Get what a connected registry last said of its sync, and how long ago"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*struct{ Body SiteSync }, error) {
			v, err := a.Service.SiteSync(ctx, in.Name)
			return &struct{ Body SiteSync }{v}, err
		})
	register(a, operation{http.MethodGet, path + "/sync-items", "list-connected-registry-sync-items", "List what a connected registry is to have, and how far that was when it last said so"},
		func(ctx context.Context, in *struct {
			Name       string `path:"name"`
			N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Repository string `query:"repository" doc:"Begin after this repository's item."`
			Item       string `query:"item" doc:"The tag, or the digest, to begin after in the repository."`
			Open       bool   `query:"open" doc:"Only what is not in sync, or not known to be."`
		}) (*syncItemPage, error) {
			return a.siteItems(ctx, in.Name, syncPlace{in.Repository, in.Item, in.Open}, in.N)
		})
	register(a, operation{http.MethodPost, path + "/settings", "get-settings", "Get what an instance needs to become a connected registry"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
			Body SettingsPost
		}) (*struct{ Body InstanceSettings }, error) {
			v, err := a.Service.Settings(ctx, in.by, in.Name, in.Body)
			return &struct{ Body InstanceSettings }{v}, err
		})
}

func registryReply(r ConnectedRegistry, err error) (*reply[ConnectedRegistry], error) {
	return &reply[ConnectedRegistry]{ETag: etag(r.version), Body: r}, err
}
