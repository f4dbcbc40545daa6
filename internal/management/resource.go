package management

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

func (h *handler) scopeMaps() {
	const path = "/scope-maps/{name}"
	since := h.trackUnheard(metadb.ScopeMapRow)
	register(h, operation{"GET /scope-maps", "list-scope-maps", "List the scope maps"},
		listSeen(h, control.KindScopeMap, h.Control.ScopeMaps, func(m api.ScopeMap) string { return m.Name }))
	register(h, operation{"GET " + path, "get-scope-map", "Get a scope map"}, show(h.Control.ScopeMap))
	register(h, operation{"PUT " + path, "put-scope-map", "Create a scope map, or replace it"},
		write(since, h.Control.PutScopeMap))
	register(h, operation{"PATCH " + path, "update-scope-map", "Change a scope map"},
		write(since, h.Control.UpdateScopeMap))
	register(h, operation{"DELETE " + path, "delete-scope-map", "Delete a scope map"},
		remove(since, h.Control.DeleteScopeMap))
}

func (h *handler) tokens() {
	const path = "/tokens/{name}"
	since := h.trackUnheard(metadb.TokenRow)
	register(h, operation{"GET /tokens", "list-tokens", "List the tokens"},
		listSeen(h, control.KindToken, h.Control.Tokens, func(t api.Token) string { return t.Name }))
	register(h, operation{"GET " + path, "get-token", "Get a token"}, show(h.Control.Token))
	register(h, operation{
		"PUT " + path, "put-token",
		"Create a token, or replace it; only this answer has the values of its new passwords",
	}, write(since, h.Control.PutToken))
	register(h, operation{"PATCH " + path, "update-token", "Change a token's scope map or status"},
		write(since, h.Control.UpdateToken))
	register(h, operation{"DELETE " + path, "delete-token", "Delete a token"}, remove(since, h.Control.DeleteToken))
	register(h, operation{
		"POST " + path + "/credentials", "generate-credentials",
		"Generate passwords of a token; only this answer has their values",
	}, ask(since, h.Control.GenerateCredentials))
	register(h, operation{"DELETE " + path + "/credentials/{password}", "delete-credential",
		"Delete a password of a token"},
		func(ctx context.Context, in *struct {
			About
			Password string `path:"password" doc:"password1 or password2" example:"password1"`
		}) (*deletion, error) {
			unheard := since(in.by, in.Name)
			return removed(h.Control.DeleteCredential(ctx, in.by, in.Name, in.Password), unheard)
		})
}

func (h *handler) mirrorRules() {
	rules := control.NewMirrorRules(h.Control, h.Mirrors)
	const path = "/mirror-rules/{name}"
	register(h, operation{"GET /mirror-rules", "list-mirror-rules", "List the mirror rules"},
		listSeen(h, control.KindMirrorRule, rules.List, func(r api.MirrorRule) string { return r.Name }))
	register(h, operation{"GET " + path, "get-mirror-rule", "Get a mirror rule, with the state of its runs"},
		show(rules.Get))
	register(h, operation{"PUT " + path, "put-mirror-rule", "Create a mirror rule, or replace it"},
		write(neverUnheard, rules.Put))
	register(h, operation{"PATCH " + path, "update-mirror-rule", "Change a mirror rule"},
		write(neverUnheard, rules.Update))
	register(h, operation{"DELETE " + path, "delete-mirror-rule",
		"Delete a mirror rule; its mirrored images stay"},
		remove(neverUnheard, rules.Delete))
	register(h, operation{"POST " + path + "/run", "run-mirror-rule",
		"Run a mirror rule now, whatever its schedule says"},
		act(neverUnheard, rules.Run))
}
