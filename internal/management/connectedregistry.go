package management

import (
	"context"
	"net/url"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
)

func (h *handler) registries() {
	const path = "/connected-registries/{name}"
	of := h.unheardOf(metadb.ConnectedRegistryRow)
	register(h, operation{
		"GET /connected-registries", "list-connected-registries",
		"List the connected registries, each followed by those below it",
	}, func(ctx context.Context, in *struct {
		Call
		Parent   string `query:"parent" doc:"Only those below this one."`
		Children string `query:"children" enum:"all,direct" default:"all" doc:"Whether only those right below."`
	}) (*listing[api.ConnectedRegistry], error) {
		return listed(h.Fleet.List(ctx, in.by, in.Parent, in.Children == "direct"))
	})
	register(h, operation{"GET " + path, "get-connected-registry", "Get a connected registry"},
		act(noneUnheard, h.Fleet.Get))
	register(h, operation{
		"PUT " + path, "create-connected-registry", "Create a connected registry, with its sync token and permissions",
	}, write(of, h.Fleet.Create))
	register(h, operation{"PATCH " + path, "update-connected-registry", "Change a connected registry"},
		write(of, h.Fleet.Update))
	register(h, operation{
		"DELETE " + path, "delete-connected-registry",
		"Delete a connected registry; what runs at the site stays as it is",
	}, func(ctx context.Context, in *struct {
		Write
		Cleanup bool `query:"cleanup" doc:"Delete its sync token and scope map, too, and its permissions in its ancestors'."`
	}) (*nothing, error) {
		unheard := of(in.Name)
		return removed(h.Fleet.Delete(ctx, in.by, in.Name, in.Cleanup, in.when()), unheard)
	})
	register(h, operation{
		"POST " + path + "/deactivate", "deactivate-connected-registry",
		"Let another instance become a connected registry",
	}, act(of, h.Fleet.Deactivate))
	register(h, operation{
		"POST " + path + "/resync", "resync-connected-registry", "List every repository to a connected registry anew",
	}, func(ctx context.Context, in *struct {
		About
		Verify bool `query:"verify" doc:"Let it read all that it has again, too, and fetch again what is damaged."`
	}) (*reply[api.ConnectedRegistry], error) {
		resync := h.Fleet.Resync
		if in.Verify {
			resync = h.Fleet.ResyncAndVerify
		}
		return act(of, resync)(ctx, &in.About)
	})
	register(h, operation{
		"GET " + path + "/sync-status", "get-sync-status",
		"Get what a connected registry last said of its sync, and how long ago",
	}, func(ctx context.Context, in *About) (*plain[api.DescendantSync], error) {
		v, err := h.Fleet.DescendantSync(ctx, in.Name)
		return &plain[api.DescendantSync]{v}, err
	})
	register(h, operation{
		"GET " + path + "/sync-items", "list-connected-registry-sync-items",
		"List what a connected registry is to have, and how far that was when it last said so",
	}, func(ctx context.Context, in *struct {
		Name       string `path:"name"`
		N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
		Repository string `query:"repository" doc:"Begin after this repository's item."`
		Item       string `query:"item" doc:"The tag, or the digest, to begin after in the repository."`
		Open       bool   `query:"open" doc:"Only what is not in sync, or not known to be."`
	}) (*page[api.SyncItem], error) {
		at := fleet.PageStart{Repository: in.Repository, Key: in.Item, Open: in.Open}
		all, more, err := h.Fleet.DescendantItems(ctx, in.Name, at, in.N)
		return itemPage(all, more, "/connected-registries/"+url.PathEscape(in.Name)+"/sync-items", in.Open), err
	})
	register(h, operation{
		"POST " + path + "/settings", "get-settings", "Get what an instance needs to become a connected registry",
	}, func(ctx context.Context, in *Post[api.SettingsPost]) (*plain[api.InstanceSettings], error) {
		of := noneUnheard
		if r := h.Control.State().Registry(in.Name); r != nil && in.Body.GeneratePassword != 0 {
			of = func(string) func() *api.Unheard { return h.unheardOf(metadb.TokenRow)(r.SyncToken) }
		}
		return ask(of, h.Fleet.InstanceSettings)(ctx, in)
	})
}
