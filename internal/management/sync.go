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

// A Syncer is what runs a connected registry's syncs.
type Syncer interface {
	// SyncNow opens a sync window at once.
	SyncNow(ctx context.Context)
	// Pause stops the running sync, and lets none begin until Resume.
	Pause(ctx context.Context)
	// Resume lets syncs run again.
	Resume(ctx context.Context)
	// InFlight returns what the running sync fetches, in the order in which
	// that comes, or what the last one left.
	InFlight(ctx context.Context) ([]wire.OutOfSyncItem, error)
}

func (h *handler) sync() {
	type status = plain[api.SyncStatus]
	read := func() (*status, error) {
		v := h.Fleet.SyncStatus()
		if h.Syncer == nil || v == nil {
			return nil, control.Refuse(api.CodeNotFound, "this is a root registry, which syncs from nowhere").
				WithHint("ask a connected registry; what the root knows of one is in " +
					"ferry connected-registry sync-status -n NAME, summed up in ferry connected-registry show")
		}
		return &status{*v}, nil
	}
	register(h, operation{"GET /sync", "get-sync", "Get how this connected registry's sync goes"},
		func(context.Context, *struct{}) (*status, error) { return read() })
	register(h, operation{"GET /sync/items", "list-sync-items",
		"List what this connected registry is to have, and how far that is"},
		func(ctx context.Context, in *struct {
			N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Repository string `query:"repository" doc:"Begin after this repository's item."`
			Item       string `query:"item" doc:"The tag, or the digest, to begin after in the repository."`
			Open       bool   `query:"open" doc:"Only what is not in sync."`
			InFlight   bool   `query:"inFlight" doc:"Only what is being fetched, what comes first at first, on one page."`
		}) (*page[api.SyncItem], error) {
			if _, err := read(); err != nil {
				return nil, err
			}
			if in.InFlight {
				return h.inFlight(ctx, in.N)
			}
			return h.syncItems(ctx, fleet.PageStart{Repository: in.Repository, Key: in.Item, Open: in.Open}, in.N)
		})
	for _, order := range []struct {
		name, summary string
		give          func(Syncer, context.Context)
	}{
		{"now", "Sync now, whatever the schedule says", Syncer.SyncNow},
		{"pause", "Stop syncing until further notice; what came stays", Syncer.Pause},
		{"resume", "Let syncs run again", Syncer.Resume},
	} {
		register(h, operation{"POST /sync/" + order.name, "sync-" + order.name, order.summary},
			func(ctx context.Context, in *struct{ Call }) (*status, error) {
				if v, err := read(); err != nil {
					return nil, err
				} else if order.name == "now" && v.Body.Paused {
					return nil, control.Conflict("syncs are paused at this site").WithHint("resume them first: ferry sync resume")
				}
				if err := h.Control.Record(ctx, in.by, order.name, "sync"); err != nil {
					return nil, err
				}
				order.give(h.Syncer, ctx)
				return read()
			})
	}
}

// inFlight returns the first n of the items that are being fetched.
func (h *handler) inFlight(ctx context.Context, n int) (*page[api.SyncItem], error) {
	moving, err := h.Syncer.InFlight(ctx)
	var all []api.SyncItem
	for _, o := range moving[:min(len(moving), n)] {
		all = append(all, fleet.OpenItemOf(o))
	}
	return newPage(all, false, nil), err
}

func (h *handler) syncItems(ctx context.Context, at fleet.PageStart, n int) (*page[api.SyncItem], error) {
	moving, err := h.Syncer.InFlight(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.Fleet.SyncItems(ctx, at, moving, n+1)
	return itemPage(all[:min(len(all), n)], len(all) > n, "/sync/items", at.Open), err
}

// itemPage returns a page of items of the list at path, of which open may be asked.
func itemPage(all []api.SyncItem, more bool, path string, open bool) *page[api.SyncItem] {
	return newPage(all, more, func(last api.SyncItem) string {
		return api.Root + path + "?open=" + strconv.FormatBool(open) + "&" + url.Values{
			"n": {strconv.Itoa(len(all))}, "repository": {last.Repository}, "item": {last.Key},
		}.Encode()
	})
}
