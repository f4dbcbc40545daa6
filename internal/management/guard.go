package management

import (
	"errors"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/oci"
)

// An Authenticator authenticates the operator of a request; [auth.Authenticator] implements it.
type Authenticator interface {
	Authenticate(r *http.Request) (*auth.Principal, error)
}

var problemType = reflect.TypeFor[api.Problem]()

// guard admits operators. What each may do is for [handler.admit] to say.
func (h *handler) guard(next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := foreign.Check(r); err != nil {
			Refuse(w, control.Refuse(api.CodeDenied, "a page of another site may not write here"))
			return
		}
		operator, err := h.Authenticator.Authenticate(r)
		if err != nil {
			writeProblem(w, h.refusal(err))
			return
		}
		if operator.Kind != auth.KindOperator {
			Refuse(w, control.Refuse(api.CodeDenied, "a token may not manage the registry").
				WithHint("log in as an operator, such as admin"))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, withPrincipal(r, operator))
	})
}

// refusal returns the answer to a failed authentication.
func (h *handler) refusal(err error) *problem {
	var c *auth.ChallengeError
	switch {
	case errors.Is(err, auth.ErrUnauthenticated):
		p := refused(control.Refuse(api.CodeUnauthorized, "%s", auth.ErrUnauthenticated))
		p.header = http.Header{"Www-Authenticate": {`Basic realm="ferry", charset="UTF-8"`}}
		return p
	case errors.As(err, &c) && errors.Is(err, oci.ErrTooManyRequests):
		p := refused(control.Refuse(api.CodeTooMany, "%s", c.Err.Message))
		p.header = http.Header{}
		c.SetHeaders(p.header)
		return p
	}
	h.Log.Error("authentication failed", "err", err)
	return refused(control.Refuse(api.CodeInternal, internalErrorText))
}

// A Call is the part of each request that identifies the caller, whom the guard has admitted.
type Call struct {
	by control.Caller
}

var _ huma.Resolver = (*Call)(nil)

// Resolve implements [huma.Resolver].
func (c *Call) Resolve(ctx huma.Context) []error {
	p := principalOf(ctx.Context()) // not nil, because [handler.admit] has checked it
	sender, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		sender = ctx.RemoteAddr()
	}
	c.by = control.Caller{
		Name: p.Name, Key: p.Key, Sender: sender, Host: ctx.Host() + ctx.Header(auth.HeaderPrefix),
		TLS: ctx.TLS() != nil || strings.EqualFold(ctx.Header(auth.HeaderProto), "https"), Limits: p.Limits,
	}
	return nil
}

// An About is a call about the resource in its path.
type About struct {
	Call
	Name string `path:"name"`
}

// A Write is a call with a precondition.
type Write struct {
	About
	IfMatch     string `header:"If-Match" doc:"Write only if the resource still has this entity tag."`
	IfNoneMatch string `header:"If-None-Match" doc:"With *: write only if the resource does not exist yet."`
}

func (w Write) when() control.Precondition {
	return control.Precondition{Match: w.IfMatch, NoneMatch: w.IfNoneMatch}
}

// A Put is a write of one resource. Its body is the new resource, or the changes to it.
type Put[T any] struct {
	Write
	Body T
}

// A Post is a call about one resource, with a body.
type Post[T any] struct {
	About
	Body T
}
