package management

import (
	"context"
	"net/http"

	"ferry/internal/api"
	"ferry/internal/control"
)

func (h *handler) mirrorRules() {
	rules := control.NewMirrorRules(h.Control, h.Mirrors)
	const path = "/mirror-rules/{name}"
	answer := func(r api.MirrorRule, err error) (*reply[api.MirrorRule], error) {
		return &reply[api.MirrorRule]{ETag: r.ETag, Body: r}, err
	}
	register(h, operation{http.MethodGet, "/mirror-rules", "list-mirror-rules", "List the mirror rules"},
		func(ctx context.Context, _ *struct{}) (*listing[api.MirrorRule], error) {
			return listed(rules.List(ctx))
		})
	register(h, operation{http.MethodGet, path, "get-mirror-rule", "Get a mirror rule, and how its runs go"},
		func(ctx context.Context, in *About) (*reply[api.MirrorRule], error) {
			return answer(rules.Get(ctx, in.Name))
		})
	register(h, operation{http.MethodPut, path, "put-mirror-rule", "Create a mirror rule, or replace it"},
		func(ctx context.Context, in *Put[api.MirrorRulePut]) (*reply[api.MirrorRule], error) {
			return answer(rules.Put(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodPatch, path, "update-mirror-rule", "Change a mirror rule"},
		func(ctx context.Context, in *Put[api.MirrorRulePatch]) (*reply[api.MirrorRule], error) {
			return answer(rules.Update(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodDelete, path, "delete-mirror-rule", "Delete a mirror rule; the images that it brought stay"},
		func(ctx context.Context, in *Write) (*nothing, error) {
			return nil, rules.Delete(ctx, in.by, in.Name, in.when())
		})
	register(h, operation{http.MethodPost, path + "/run", "run-mirror-rule", "Run a mirror rule now, whatever its schedule says"},
		func(ctx context.Context, in *Write) (*reply[api.MirrorRule], error) {
			return answer(rules.Run(ctx, in.by, in.Name))
		})
}
