package management

import (
	"context"
	"net/url"
	"strconv"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/credential"
	"ferry/internal/fleet"
	"ferry/internal/storage"
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
	// Connection returns the connection string in force, with its secret.
	Connection() wire.ConnectionString
	// SetConnection puts another one in force, which is tried at once, and returns the parent's answer.
	SetConnection(ctx context.Context, c wire.ConnectionString) credential.State
	// InFlight returns the items that the running sync fetches, in order, or those that the last
	// one left incomplete.
	InFlight(ctx context.Context) ([]wire.OutOfSyncItem, error)
	// Resolve ends the conflicts of an item, and with discard gives up its change that is not sent yet.
	Resolve(ctx context.Context, item api.SyncResolvePost, note storage.Note) (api.SyncResolved, error)
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
			Call
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
				return h.inFlight(ctx, in.by, in.N)
			}
			at := fleet.PageStart{Repository: in.Repository, Key: in.Item, OutOfSync: in.Open}
			return h.syncItems(ctx, in.by, at, in.N)
		})
	register(h, operation{"POST /sync/resolve", "sync-resolve",
		"End a conflict of this site with its parent, or give up a change that is not sent"},
		func(ctx context.Context, in *struct {
			Call
			Body api.SyncResolvePost
		}) (*plain[api.SyncResolved], error) {
			if _, err := read(); err != nil {
				return nil, err
			}
			detail := ""
			if in.Body.Discard {
				detail = "discard"
			}
			note := h.Control.AuditNote(in.by.Actor(), in.by.Sender, "resolve",
				"repositories/"+in.Body.Repository+"/items/"+in.Body.Item, detail)
			done, err := h.Syncer.Resolve(ctx, in.Body, note)
			return &plain[api.SyncResolved]{done}, err
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
				if err := h.Control.AuditAlone(ctx, in.by, command.name, "sync", ""); err != nil {
					return nil, err
				}
				command.do(h.Syncer, ctx)
				return read()
			})
	}
}

// inFlight returns the first n items in flight that the caller may see.
func (h *handler) inFlight(ctx context.Context, by control.Caller, n int) (*page[api.SyncItem], error) {
	inFlight, err := h.Syncer.InFlight(ctx)
	var all []api.SyncItem
	for _, o := range inFlight {
		if len(all) < n && by.Limits.Covers(o.Repository) {
			all = append(all, fleet.SyncItemOf(o))
		}
	}
	return newPage(all, false, nil), err
}

func (h *handler) syncItems(
	ctx context.Context, by control.Caller, at fleet.PageStart, n int,
) (*page[api.SyncItem], error) {
	inFlight, err := h.Syncer.InFlight(ctx)
	if err != nil {
		return nil, err
	}
	return itemPage(by, at, n, "/sync/items", func(at fleet.PageStart, limit int) ([]api.SyncItem, error) {
		return h.Fleet.SyncItems(ctx, at, inFlight, limit)
	})
}

// itemPage returns a page of the list of items at path, of those that the caller may see. next reads
// up to limit items from a position.
func itemPage(
	by control.Caller, at fleet.PageStart, n int, path string,
	next func(at fleet.PageStart, limit int) ([]api.SyncItem, error),
) (*page[api.SyncItem], error) {
	some := scan[api.SyncItem]{next: func(after *api.SyncItem, limit int) ([]api.SyncItem, error) {
		at := at
		if after != nil {
			at.Repository, at.Key = after.Repository, after.Key
		}
		return next(at, limit)
	}}
	if by.Limits.Any() {
		some.keep = func(i api.SyncItem) bool { return by.Limits.Covers(i.Repository) }
	}
	return some.page(n, func(last api.SyncItem) string {
		return api.Root + path + "?open=" + strconv.FormatBool(at.OutOfSync) + "&" + url.Values{
			"n": {strconv.Itoa(n)}, "repository": {last.Repository}, "item": {last.Key},
		}.Encode()
	})
}
