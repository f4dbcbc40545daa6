package management

import (
	"context"
	"net/url"
	"strconv"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/wire"
)

// A Syncer controls the syncs of a connected registry.
type Syncer interface {
	// SyncNow opens a sync window at once.
	SyncNow(ctx context.Context)
	// Pause stops the running sync, and prevents others until Resume.
	Pause(ctx context.Context)
	// Resume allows syncs again.
	Resume(ctx context.Context)
	// InFlight returns the items that the running sync fetches, in order, or those that the last
	// one left incomplete.
	InFlight(ctx context.Context) ([]wire.OutOfSyncItem, error)
}

func (h *handler) sync() {
	type status = plain[api.SyncStatus]
	read := func() (*status, error) {
		v := h.Fleet.SyncStatus()
		if h.Syncer == nil || v == nil {
			return nil, control.Refuse(api.CodeNotFound, "this is a root registry, which has no parent to sync from").
				WithHint("ask a connected registry, or see what the root knows of it: " +
					"ferry connected-registry sync-status -n NAME")
		}
		return &status{*v}, nil
	}
	register(h, operation{"GET /sync", "get-sync", "Get the sync status of this connected registry"},
		func(context.Context, *struct{}) (*status, error) { return read() })
	register(h, operation{"GET /sync/items", "list-sync-items",
		"List the items of this connected registry, with their states and progress"},
		func(ctx context.Context, in *struct {
			N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Repository string `query:"repository" doc:"Begin in this repository, after item."`
			Item       string `query:"item" doc:"The tag or digest to begin after."`
			Open       bool   `query:"open" doc:"Only items that are not in sync."`
			InFlight   bool   `query:"inFlight" doc:"Only items in flight, in the order of their arrival, on one page."`
		}) (*page[api.SyncItem], error) {
			if _, err := read(); err != nil {
				return nil, err
			}
			if in.InFlight {
				return h.inFlight(ctx, in.N)
			}
			return h.syncItems(ctx, fleet.PageStart{Repository: in.Repository, Key: in.Item, OutOfSync: in.Open}, in.N)
		})
	for _, command := range []struct {
		name, summary string
		do            func(Syncer, context.Context)
	}{
		{"now", "Sync now, whatever the schedule says", Syncer.SyncNow},
		{"pause", "Stop syncing until it is resumed; received content stays", Syncer.Pause},
		{"resume", "Allow syncs again", Syncer.Resume},
	} {
		register(h, operation{"POST /sync/" + command.name, "sync-" + command.name, command.summary},
			func(ctx context.Context, in *struct{ Call }) (*status, error) {
				if v, err := read(); err != nil {
					return nil, err
				} else if command.name == "now" && v.Body.Paused {
					return nil, control.Conflict("syncs are paused at this site").
						WithHint("resume them first: ferry sync resume")
				}
				if err := h.Control.AuditAlone(ctx, in.by, command.name, "sync"); err != nil {
					return nil, err
				}
				command.do(h.Syncer, ctx)
				return read()
			})
	}
}

// inFlight returns the first n items in flight.
func (h *handler) inFlight(ctx context.Context, n int) (*page[api.SyncItem], error) {
	inFlight, err := h.Syncer.InFlight(ctx)
	var all []api.SyncItem
	for _, o := range inFlight[:min(len(inFlight), n)] {
		all = append(all, fleet.SyncItemOf(o))
	}
	return newPage(all, false, nil), err
}

func (h *handler) syncItems(ctx context.Context, at fleet.PageStart, n int) (*page[api.SyncItem], error) {
	inFlight, err := h.Syncer.InFlight(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.Fleet.SyncItems(ctx, at, inFlight, n+1)
	return itemPage(all[:min(len(all), n)], len(all) > n, "/sync/items", at.OutOfSync), err
}

// itemPage returns a page of the list of items at path. open repeats the query of this page.
func itemPage(all []api.SyncItem, more bool, path string, open bool) *page[api.SyncItem] {
	return newPage(all, more, func(last api.SyncItem) string {
		return api.Root + path + "?open=" + strconv.FormatBool(open) + "&" + url.Values{
			"n": {strconv.Itoa(len(all))}, "repository": {last.Repository}, "item": {last.Key},
		}.Encode()
	})
}
