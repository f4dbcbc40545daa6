package control

import (
	"context"
	"net/http"
)

// A MirrorWrite is a call about one mirror rule.
type MirrorWrite struct {
	Write
	Name string `path:"name"`
}

func (a *api) mirrorRules() {
	desk := mirrorDesk{a.Service, a.Mirrors}
	const path = "/mirror-rules/{name}"
	answer := func(r MirrorRule, err error) (*reply[MirrorRule], error) {
		return &reply[MirrorRule]{ETag: etag(r.version), Body: r}, err
	}
	register(a, operation{http.MethodGet, "/mirror-rules", "list-mirror-rules", "List the mirror rules"},
		func(ctx context.Context, _ *struct{}) (*listing[MirrorRule], error) { return listed(desk.all(ctx)) })
	register(a, operation{http.MethodGet, path, "get-mirror-rule", "Get a mirror rule, and how its runs go"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*reply[MirrorRule], error) {
			return answer(desk.get(ctx, in.Name))
		})
	register(a, operation{http.MethodPut, path, "put-mirror-rule", "Create a mirror rule, or replace it"},
		func(ctx context.Context, in *struct {
			MirrorWrite
			Body MirrorRulePut
		}) (*reply[MirrorRule], error) {
			return answer(desk.put(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodPatch, path, "update-mirror-rule", "Change a mirror rule"},
		func(ctx context.Context, in *struct {
			MirrorWrite
			Body MirrorRulePatch
		}) (*reply[MirrorRule], error) {
			return answer(desk.update(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodDelete, path, "delete-mirror-rule", "Delete a mirror rule; the images that it brought stay"},
		func(ctx context.Context, in *MirrorWrite) (*nothing, error) {
			return nil, desk.delete(ctx, in.by, in.Name, in.when())
		})
	register(a, operation{http.MethodPost, path + "/run", "run-mirror-rule", "Run a mirror rule now, whatever its schedule says"},
		func(ctx context.Context, in *MirrorWrite) (*reply[MirrorRule], error) {
			return answer(desk.run(ctx, in.by, in.Name))
		})
}
