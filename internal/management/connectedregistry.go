package management

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
)

// A registryDeletion is an answer without a body, unless there is something to say.
type registryDeletion struct {
	Status int
	Body   *api.RegistryDeletion
}

func (h *handler) registries() {
	const path = "/connected-registries/{name}"
	since := h.trackUnheard(metadb.ConnectedRegistryRow)
	register(h, operation{
		"GET /connected-registries", "list-connected-registries",
		"List the connected registries, each followed by its descendants",
	}, func(ctx context.Context, in *struct {
		Call
		Parent   string `query:"parent" doc:"Only descendants of this one."`
		Children string `query:"children" enum:"all,direct" default:"all" doc:"direct is only the children."`
		Filter   string `query:"filter" doc:"Terms such as state:behind behind>1d reason:DiskError group:baltic."`
		Sort     string `query:"sort" enum:"tree,worst" default:"tree" doc:"worst is by state and lag."`
		N        int    `query:"n" minimum:"1" maximum:"1000" default:"1000" doc:"How many at most."`
		After    string `query:"after" doc:"The cursor in the nextLink of the page before."`
	}) (*page[api.ConnectedRegistry], error) {
		all, next, err := h.Fleet.List(ctx, fleet.ListQuery{
			By: in.by, Parent: in.Parent, Direct: in.Children == "direct", Filter: in.Filter, Worst: in.Sort == "worst",
			After: in.After, Limit: in.N,
		})
		link := url.Values{"parent": {in.Parent}, "children": {in.Children}, "filter": {in.Filter}, "sort": {in.Sort}}
		return pageAfter(all, next, "/connected-registries", link, in.N), err
	})
	register(h, operation{"GET " + path, "get-connected-registry", "Get a connected registry"},
		act(neverUnheard, h.Fleet.Get))
	register(h, operation{
		"PUT " + path, "create-connected-registry", "Create a connected registry, with its sync token and permissions",
	}, write(since, h.Fleet.Create))
	register(h, operation{"PATCH " + path, "update-connected-registry", "Change a connected registry"},
		write(since, h.Fleet.Update))
	register(h, operation{
		"DELETE " + path, "delete-connected-registry",
		"Delete a connected registry; the instance at the site keeps running",
	}, func(ctx context.Context, in *struct {
		Write
		Cleanup bool `query:"cleanup" doc:"Also delete its sync token, its scope map and its ancestors' permissions."`
	}) (*registryDeletion, error) {
		unheard := since(in.by, in.Name)
		left, err := h.Fleet.Delete(ctx, in.by, in.Name, in.Cleanup, in.when())
		if err != nil {
			return nil, err
		}
		if left.Unheard = unheard(); left.Unheard == nil && len(left.Leftovers)+len(left.Warnings) == 0 {
			return &registryDeletion{Status: http.StatusNoContent}, nil
		}
		return &registryDeletion{Status: http.StatusOK, Body: &left}, nil
	})
	register(h, operation{
		"POST " + path + "/deactivate", "deactivate-connected-registry",
		"Allow another instance to activate a connected registry",
	}, act(since, h.Fleet.Deactivate))
	register(h, operation{
		"POST " + path + "/resync", "resync-connected-registry", "List every repository to a connected registry again",
	}, func(ctx context.Context, in *struct {
		About
		Verify bool `query:"verify" doc:"Also make it read all of its content again, and fetch damaged content again."`
	}) (*reply[api.ConnectedRegistry], error) {
		resync := h.Fleet.Resync
		if in.Verify {
			resync = h.Fleet.ResyncAndVerify
		}
		return act(since, resync)(ctx, &in.About)
	})
	register(h, operation{
		"GET " + path + "/sync-status", "get-sync-status",
		"Get the sync status in a connected registry's last report, and its age",
	}, func(ctx context.Context, in *About) (*plain[api.DescendantSync], error) {
		v, err := h.Fleet.DescendantSync(ctx, in.Name)
		return &plain[api.DescendantSync]{v}, err
	})
	register(h, operation{
		"GET " + path + "/sync-items", "list-connected-registry-sync-items",
		"List the items of a connected registry, with the states that follow from its last report",
	}, func(ctx context.Context, in *struct {
		About
		N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
		Repository string `query:"repository" doc:"Begin in this repository, after item."`
		Item       string `query:"item" doc:"The tag or digest to begin after."`
		Open       bool   `query:"open" doc:"Only items that are not known to be in sync."`
	}) (*page[api.SyncItem], error) {
		at := fleet.PageStart{Repository: in.Repository, Key: in.Item, OutOfSync: in.Open}
		next := func(at fleet.PageStart, limit int) ([]api.SyncItem, error) {
			all, _, err := h.Fleet.DescendantItems(ctx, in.Name, at, limit)
			return all, err
		}
		return itemPage(in.by, at, in.N, "/connected-registries/"+url.PathEscape(in.Name)+"/sync-items", next)
	})
	register(h, operation{
		"GET " + path + "/permissions", "get-permissions", "Get the scope map of a connected registry's sync token",
	}, act(neverUnheard, h.Fleet.Permissions))
	register(h, operation{
		"PATCH " + path + "/permissions", "update-permissions",
		"Change which repositories a connected registry may sync, with its ancestors or descendants",
	}, write(since, h.Fleet.UpdatePermissions))
	register(h, operation{
		"GET " + path + "/client-tokens", "list-client-tokens", "List the client tokens of a connected registry",
	}, func(ctx context.Context, in *About) (*collection[api.Token], error) {
		all, err := h.Fleet.ClientTokens(ctx, in.Name)
		return listed(slices.DeleteFunc(all, func(t api.Token) bool {
			return !h.Control.State().SeesToken(in.by.Limits, t.Name)
		}), err)
	})
	register(h, operation{
		"POST " + path + "/settings", "get-settings",
		"Get the settings that an instance needs to become a connected registry",
	}, func(ctx context.Context, in *Post[api.SettingsPost]) (*plain[api.InstanceSettings], error) {
		since := neverUnheard
		if in.Body.JoinFor != "" {
			since = h.trackUnheard(metadb.ConnectedRegistryRow)
		}
		if r := h.Control.State().Registry(in.Name); r != nil && in.Body.GeneratePassword != 0 {
			since = func(by control.Caller, _ string) func() *api.Unheard {
				return h.trackUnheard(metadb.TokenRow)(by, r.SyncToken)
			}
		}
		return ask(since, h.Fleet.InstanceSettings)(ctx, in)
	})
}
