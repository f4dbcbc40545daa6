package management

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// A reach says what an operation shows or changes, which decides whether an operator with limits
// may call it. It is one of the following, or the kind of the resource that is named in the path:
// then the resource must be within the limits, and otherwise appears not to exist.
//
// Whatever the reach, [control.Service.Write] refuses a change that is not within the limits.
type reach string

const (
	// open is for operations that show no resource.
	open reach = "open"
	// filtered is for operations whose handlers leave out, or refuse, whatever is not within
	// Call.by.Limits: lists, and requests that name repositories in their body.
	filtered reach = "filtered"
	// whole is for operations about the whole instance. They need an operator without limits.
	whole reach = "whole"
	// people is like whole, for operations that decide who may log in: no API key may change
	// operators, so that one that others find does not outlive its end.
	people reach = "people"
	// self is like people. The operator in the path may always do it.
	self reach = "self"
)

// rules has the reach of every operation. An operation without a rule is whole. The table is never
// written.
var rules = map[string]reach{
	"get-status": open,
	"get-login":  open,

	"list-connected-registries":          filtered,
	"get-connected-registry":             control.KindRegistry,
	"create-connected-registry":          control.KindRegistry,
	"update-connected-registry":          control.KindRegistry,
	"delete-connected-registry":          control.KindRegistry,
	"deactivate-connected-registry":      control.KindRegistry,
	"resync-connected-registry":          control.KindRegistry,
	"get-sync-status":                    control.KindRegistry,
	"list-connected-registry-sync-items": control.KindRegistry, // its handler filters the repositories
	"get-settings":                       control.KindRegistry,
	"get-permissions":                    control.KindRegistry,
	"update-permissions":                 control.KindRegistry,
	"list-client-tokens":                 control.KindRegistry, // its handler filters the tokens

	"list-scope-maps":  filtered,
	"get-scope-map":    control.KindScopeMap,
	"put-scope-map":    control.KindScopeMap,
	"update-scope-map": control.KindScopeMap,
	"delete-scope-map": control.KindScopeMap,

	"list-tokens":          filtered,
	"get-token":            control.KindToken,
	"put-token":            control.KindToken,
	"update-token":         control.KindToken,
	"delete-token":         control.KindToken,
	"generate-credentials": control.KindToken,
	"delete-credential":    control.KindToken,

	"list-repositories": filtered,
	"get-repository":    control.KindRepository,
	"delete-repository": control.KindRepository,

	"get-fleet":    filtered,
	"get-coverage": filtered,

	"list-mirror-rules":  filtered,
	"get-mirror-rule":    control.KindMirrorRule,
	"put-mirror-rule":    control.KindMirrorRule,
	"update-mirror-rule": control.KindMirrorRule,
	"delete-mirror-rule": control.KindMirrorRule,
	"run-mirror-rule":    control.KindMirrorRule,

	"purge":             filtered,
	"list-purge-rules":  whole,
	"get-purge-rule":    whole,
	"put-purge-rule":    whole,
	"delete-purge-rule": whole,
	"run-purge-rule":    whole,

	"import":        filtered,
	"list-imports":  filtered,
	"get-import":    filtered,
	"cancel-import": filtered,

	"list-operators":        whole,
	"get-operator":          self,
	"put-operator":          people,
	"update-operator":       people,
	"delete-operator":       people,
	"set-operator-password": self,
	"list-api-keys":         self,
	"create-api-key":        self,
	"delete-api-key":        self,

	"list-audit-log": filtered,

	"list-webhooks":        whole, // a webhook gets events of every repository
	"get-webhook":          whole,
	"put-webhook":          whole,
	"update-webhook":       whole,
	"delete-webhook":       whole,
	"get-webhook-config":   whole,
	"ping-webhook":         whole,
	"retry-webhook-events": whole,
	"list-webhook-events":  whole,
	"list-events":          filtered,

	"get-sync":        open,
	"list-sync-items": filtered,
	"sync-now":        whole,
	"sync-pause":      whole,
	"sync-resolve":    whole,
	"sync-resume":     whole,
	"set-credentials": whole,

	"get-scrub":    open,
	"start-scrub":  whole,
	"list-damaged": filtered,
}

// nouns are the kinds of resource in text for people.
var nouns = map[reach]string{
	control.KindRegistry: "connected registry", control.KindToken: "token", control.KindScopeMap: "scope map",
	control.KindRepository: "repository", control.KindMirrorRule: "mirror rule",
}

// admit returns the middleware that refuses an operation to callers without the right to it, before
// the request is read.
func (h *handler) admit(op operation) func(huma.Context, func(huma.Context)) {
	reach, ok := rules[op.id]
	if !ok {
		reach = whole
	}
	return func(ctx huma.Context, next func(huma.Context)) {
		if err := h.check(ctx, reach); err != nil {
			_, w := humago.Unwrap(ctx)
			writeProblem(w, h.problemOf(ctx.Context(), op, err))
			return
		}
		next(ctx)
	}
}

// check returns an error unless the caller may make a request with this reach.
func (h *handler) check(ctx huma.Context, to reach) error {
	p := principalOf(ctx.Context())
	if p == nil {
		return control.Refuse(api.CodeUnauthorized, "%s", auth.ErrUnauthenticated)
	}
	writes := ctx.Method() != http.MethodGet && ctx.Method() != http.MethodHead
	own := to == self && ctx.Param("name") == p.Name
	switch {
	case writes && p.Key != "" && (to == people || to == self):
		return control.Refuse(api.CodeDenied, "with an API key nobody may change operators").
			WithHint("log in with the operator's password")
	case own:
		return nil
	case writes && !p.Admin && p.Key != "":
		return control.Refuse(api.CodeDenied, "the API key %s of the operator %s may only read", p.Key, p.Name)
	case writes && !p.Admin:
		return control.Refuse(api.CodeDenied, "the operator %s may only read", p.Name)
	case !p.Limits.Any():
		return nil
	}
	noun, ok := nouns[to]
	switch {
	case to == open, to == filtered:
		return nil
	case !ok:
		return control.Refuse(api.CodeDenied, "the operator %s has limits, and may not do this", p.Name).
			WithHint("ask an operator without limits")
	}
	object := string(to) + "/" + ctx.Param("name")
	exists, seen, err := h.Control.Sees(ctx.Context(), p.Limits, object)
	switch {
	case err != nil:
		return err
	case seen || !exists:
		return nil // the handler says that it does not exist, or creates it
	case ctx.Method() == http.MethodPut:
		return control.Outside(p.Name, object)
	}
	return control.MapNotFound(metadb.ErrNotFound, noun, ctx.Param("name"))
}

// contextKey is the key of the caller in the context of a request.
type contextKey struct{}

// withPrincipal returns the request of a caller.
func withPrincipal(r *http.Request, p *auth.Principal) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, p))
}

// principalOf returns the caller of a request; nil if the guard has not admitted it.
func principalOf(ctx context.Context) *auth.Principal {
	p, _ := ctx.Value(contextKey{}).(*auth.Principal)
	return p
}

// maxScanned bounds the entries that one request for a page reads. A caller with limits gets a
// shorter page, with a link to the next, if most entries are not within the limits.
const maxScanned = 50_000

// A scan reads a list in order, and keeps some of its entries.
type scan[T any] struct {
	next func(after *T, limit int) ([]T, error) // after nil begins the page
	keep func(T) bool                           // nil keeps all
}

// page returns the first n kept entries, with a link to the page after them; link returns its
// address, given the last entry that was read.
func (s scan[T]) page(n int, link func(last T) string) (*page[T], error) {
	p := &page[T]{}
	p.Body.Value = []T{}
	limit := n + 1
	if s.keep != nil {
		limit = max(limit, maxScanned/50)
	}
	var last *T
	for scanned := 0; ; {
		some, err := s.next(last, limit)
		if err != nil {
			return nil, err
		}
		for i, v := range some {
			if len(p.Body.Value) == n {
				p.Body.NextLink = link(*last)
				return p, nil
			}
			if s.keep == nil || s.keep(v) {
				p.Body.Value = append(p.Body.Value, v)
			}
			last = &some[i]
		}
		if len(some) < limit {
			return p, nil
		}
		if scanned += len(some); scanned >= maxScanned {
			p.Body.NextLink = link(*last)
			return p, nil
		}
	}
}

// seen returns those of all that are within the caller's limits. object returns the kind and the
// name of each.
func seen[T any](ctx context.Context, h *handler, by control.Caller, all []T, object func(T) string) ([]T, error) {
	if !by.Limits.Any() {
		return all, nil
	}
	kept := []T{}
	for _, v := range all {
		_, ok, err := h.Control.Sees(ctx, by.Limits, object(v))
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// listSeen answers with all resources of a kind that list returns and the caller may see.
func listSeen[T any](
	h *handler, kind string, list func(context.Context) ([]T, error), name func(T) string,
) answer[Call, collection[T]] {
	return func(ctx context.Context, in *Call) (*collection[T], error) {
		all, err := list(ctx)
		if err != nil {
			return nil, err
		}
		return listed(seen(ctx, h, in.by, all, func(v T) string { return kind + "/" + name(v) }))
	}
}

// seesImages reports whether all images, such as team/app:v1, are in repositories within limits.
func seesImages(l auth.Limits, images []string) bool {
	for _, image := range images {
		repository, _, _ := strings.Cut(strings.TrimPrefix(image, "/"), "@")
		if i := strings.LastIndex(repository, ":"); i > 0 {
			repository = repository[:i]
		}
		if !l.Covers(repository) {
			return false
		}
	}
	return true
}
