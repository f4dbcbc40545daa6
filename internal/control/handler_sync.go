package control

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"

	"ferry/internal/metadb"
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
	// Underway returns what the running sync fetches, in the order in which
	// that comes, or what the last one left.
	Underway(ctx context.Context) ([]wire.OpenItem, error)
}

// A syncItemPage is a part of the items, by repository and tag.
type syncItemPage struct {
	Body struct {
		Value    []SyncItem `json:"value" nullable:"false"`
		NextLink string     `json:"nextLink,omitempty" doc:"Where the next page is; not there on the last one."`
	}
}

func (a *api) sync() {
	type answer struct{ Body SyncStatus }
	read := func() (*answer, error) {
		v := a.Service.syncStatus()
		if a.Syncer == nil || v == nil {
			return nil, problem(http.StatusNotFound, codeNotFound, "this is a root registry, which syncs from nowhere").
				hint("ask a connected registry; what the root knows of one is in ferry connected-registry sync-status -n NAME, summed up in ferry connected-registry show")
		}
		return &answer{*v}, nil
	}
	register(a, operation{http.MethodGet, "/sync", "get-sync", "Get how this connected registry's sync goes"},
		func(context.Context, *struct{}) (*answer, error) { return read() })
	register(a, operation{http.MethodGet, "/sync/items", "list-sync-items", "List what this connected registry is to have, and how far that is"},
		func(ctx context.Context, in *struct {
			N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Repository string `query:"repository" doc:"Begin after this repository's item."`
			Item       string `query:"item" doc:"The tag, or the digest, to begin after in the repository."`
			Open       bool   `query:"open" doc:"Only what is not in sync."`
			Underway   bool   `query:"underway" doc:"Only what is being fetched, what comes first at first, on one page."`
		}) (*syncItemPage, error) {
			if _, err := read(); err != nil {
				return nil, err
			}
			if in.Underway {
				return a.underway(ctx, in.N)
			}
			return a.syncItems(ctx, syncPlace{in.Repository, in.Item, in.Open}, in.N)
		})
	for _, order := range []struct {
		name, summary string
		give          func(Syncer, context.Context)
	}{
		{"now", "Sync now, whatever the schedule says", Syncer.SyncNow},
		{"pause", "Stop syncing until further notice; what came stays", Syncer.Pause},
		{"resume", "Let syncs run again", Syncer.Resume},
	} {
		register(a, operation{http.MethodPost, "/sync/" + order.name, "sync-" + order.name, order.summary},
			func(ctx context.Context, in *struct{ Call }) (*answer, error) {
				if v, err := read(); err != nil {
					return nil, err
				} else if order.name == "now" && v.Body.Paused {
					return nil, conflict("syncs are paused at this site").hint("resume them first: ferry sync resume")
				}
				err := a.Service.update(ctx, func(tx *metadb.Tx) error { return a.Service.audit(tx, in.by, order.name, "sync") })
				if err != nil {
					return nil, err
				}
				order.give(a.Syncer, ctx)
				return read()
			})
	}
}

// underway returns the first n of the items that are being fetched.
func (a *api) underway(ctx context.Context, n int) (*syncItemPage, error) {
	all, err := a.Syncer.Underway(ctx)
	if err != nil {
		return nil, err
	}
	page := &syncItemPage{}
	page.Body.Value = []SyncItem{}
	for _, o := range all[:min(len(all), n)] {
		page.Body.Value = append(page.Body.Value, openItemOf(o))
	}
	return page, nil
}

func (a *api) syncItems(ctx context.Context, at syncPlace, n int) (*syncItemPage, error) {
	moving, err := a.Syncer.Underway(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.Service.syncItems(ctx, at, n+1)
	if err != nil {
		return nil, err
	}
	far := map[[2]string]wire.OpenItem{}
	for _, o := range moving {
		far[[2]string{o.Repository, cmp.Or(o.Tag, string(o.Digest))}] = o
	}
	for i, v := range all {
		all[i].moves(far[[2]string{v.Repository, v.item}])
	}
	page := &syncItemPage{}
	page.Body.Value = []SyncItem{}
	if len(all) > n {
		all = all[:n]
		last := all[n-1]
		page.Body.NextLink = root + "/sync/items?" + url.Values{
			"n": {strconv.Itoa(n)}, "repository": {last.Repository}, "item": {last.item}, "open": {strconv.FormatBool(at.Open)},
		}.Encode()
	}
	page.Body.Value = append(page.Body.Value, all...)
	return page, nil
}
