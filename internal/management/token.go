package management

import (
	"context"
	"net/http"

	"ferry/internal/api"
)

func (h *handler) tokens() {
	const path = "/tokens/{name}"
	register(h, operation{http.MethodGet, "/tokens", "list-tokens", "List the tokens"},
		func(ctx context.Context, _ *struct{}) (*listing[api.Token], error) {
			return listed(h.Control.Tokens(ctx))
		})
	register(h, operation{http.MethodGet, path, "get-token", "Get a token"},
		func(ctx context.Context, in *About) (*reply[api.Token], error) {
			return tokenReply(h.Control.Token(ctx, in.Name))
		})
	register(h, operation{http.MethodPut, path, "put-token", "Create a token, or replace it; the answer alone has the values of its new passwords"},
		func(ctx context.Context, in *Put[api.TokenPut]) (*reply[api.Token], error) {
			return tokenReply(h.Control.PutToken(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodPatch, path, "update-token", "Change a token's scope map or status"},
		func(ctx context.Context, in *Put[api.TokenPatch]) (*reply[api.Token], error) {
			return tokenReply(h.Control.UpdateToken(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(h, operation{http.MethodDelete, path, "delete-token", "Delete a token"},
		func(ctx context.Context, in *Write) (*nothing, error) {
			return nil, h.Control.DeleteToken(ctx, in.by, in.Name, in.when())
		})
	register(h, operation{http.MethodPost, path + "/credentials", "generate-credentials", "Make passwords of a token; the answer alone has their values"},
		func(ctx context.Context, in *Post[api.CredentialsPost]) (*struct{ Body api.TokenCredentials }, error) {
			c, err := h.Control.GenerateCredentials(ctx, in.by, in.Name, in.Body)
			return &struct{ Body api.TokenCredentials }{c}, err
		})
	register(h, operation{http.MethodDelete, path + "/credentials/{password}", "delete-credential", "Delete a password of a token"},
		func(ctx context.Context, in *struct {
			About
			Password string `path:"password" doc:"password1 or password2"`
		}) (*nothing, error) {
			return nil, h.Control.DeleteCredential(ctx, in.by, in.Name, in.Password)
		})
}

func tokenReply(t api.Token, err error) (*reply[api.Token], error) {
	return &reply[api.Token]{ETag: t.ETag, Body: t}, err
}
