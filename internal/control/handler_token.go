package control

import (
	"context"
	"net/http"
)

func (a *api) tokens() {
	const path = "/tokens/{name}"
	register(a, operation{http.MethodGet, "/tokens", "list-tokens", "List the tokens"},
		func(ctx context.Context, _ *struct{}) (*listing[Token], error) {
			return listed(a.Service.Tokens(ctx))
		})
	register(a, operation{http.MethodGet, path, "get-token", "Get a token"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*reply[Token], error) {
			return tokenReply(a.Service.Token(ctx, in.Name))
		})
	register(a, operation{http.MethodPut, path, "put-token", "Create a token, or replace it; the answer alone has the values of its new passwords"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body TokenPut
		}) (*reply[Token], error) {
			return tokenReply(a.Service.PutToken(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodPatch, path, "update-token", "Change a token's scope map or status"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
			Body TokenPatch
		}) (*reply[Token], error) {
			return tokenReply(a.Service.UpdateToken(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodDelete, path, "delete-token", "Delete a token"},
		func(ctx context.Context, in *struct {
			Write
			Name string `path:"name"`
		}) (*nothing, error) {
			return nil, a.Service.DeleteToken(ctx, in.by, in.Name, in.when())
		})
	register(a, operation{http.MethodPost, path + "/credentials", "generate-credentials", "Make passwords of a token; the answer alone has their values"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
			Body CredentialsPost
		}) (*struct{ Body TokenCredentials }, error) {
			c, err := a.Service.GenerateCredentials(ctx, in.by, in.Name, in.Body)
			return &struct{ Body TokenCredentials }{c}, err
		})
	register(a, operation{http.MethodDelete, path + "/credentials/{password}", "delete-credential", "Delete a password of a token"},
		func(ctx context.Context, in *struct {
			Call
			Name     string `path:"name"`
			Password string `path:"password" doc:"password1 or password2"`
		}) (*nothing, error) {
			return nil, a.Service.DeleteCredential(ctx, in.by, in.Name, in.Password)
		})
}

func tokenReply(t Token, err error) (*reply[Token], error) {
	return &reply[Token]{ETag: etag(t.version), Body: t}, err
}
