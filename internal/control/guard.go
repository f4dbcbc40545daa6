package control

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// An Authenticator finds out whose name and password a request has;
// [auth.Authenticator] is one.
type Authenticator interface {
	Basic(r *http.Request) (*auth.Principal, error)
}

var problemType = reflect.TypeFor[Problem]()

// guard lets in operators: to read, and those with the role admin to write.
func (a *api) guard(next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := foreign.Check(r); err != nil {
			writeProblem(w, problem(http.StatusForbidden, codeDenied, "a page of another site may not write here"))
			return
		}
		who, err := a.Authenticator.Basic(r)
		if err != nil {
			writeProblem(w, a.refusal(err))
			return
		}
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case who.Kind != auth.KindOperator:
			writeProblem(w, problem(http.StatusForbidden, codeDenied, "a token may not manage the registry").
				hint("log in as an operator, such as admin"))
		case !who.Admin && !reads:
			writeProblem(w, problem(http.StatusForbidden, codeDenied, "the operator %s may only read", who.Name))
		default:
			w.Header().Set("Cache-Control", "no-store")
			next.ServeHTTP(w, r)
		}
	})
}

// refusal is what a caller that did not prove who it is gets.
func (a *api) refusal(err error) *Problem {
	var c *auth.ChallengeError
	switch {
	case errors.Is(err, auth.ErrUnauthenticated):
		p := problem(http.StatusUnauthorized, codeUnauthorized, "%s", auth.ErrUnauthenticated)
		p.header = http.Header{"Www-Authenticate": {`Basic realm="ferry", charset="UTF-8"`}}
		return p
	case errors.As(err, &c) && errors.Is(err, oci.ErrTooManyRequests):
		p := problem(http.StatusTooManyRequests, codeTooMany, "%s", c.Err.Message)
		p.header = http.Header{}
		c.SetHeaders(p.header)
		return p
	}
	a.Log.Error("authentication failed", "err", err)
	return problem(http.StatusInternalServerError, codeInternal, internalErrorText)
}

// writeProblem answers with a problem, outside of huma.
func writeProblem(w http.ResponseWriter, p *Problem) {
	body, _ := json.Marshal(p) // strings and numbers
	h := w.Header()
	for key, values := range p.header {
		h[key] = values
	}
	h.Set("Content-Type", typeProblem)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	w.Write(body)
}

// A Call is the part of each request that says whose it is. The guard has
// checked the name's password before.
type Call struct {
	by Caller
}

var _ huma.Resolver = (*Call)(nil)

// Resolve implements [huma.Resolver].
func (c *Call) Resolve(ctx huma.Context) []error {
	header := http.Header{"Authorization": {ctx.Header("Authorization")}}
	name, _, _ := (&http.Request{Header: header}).BasicAuth()
	source, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		source = ctx.RemoteAddr()
	}
	c.by = Caller{Name: name, Source: source, Host: ctx.Host()}
	return nil
}

// A Write is a call with what it expects to find.
type Write struct {
	Call
	IfMatch     string `header:"If-Match" doc:"Write only what still has this entity tag."`
	IfNoneMatch string `header:"If-None-Match" doc:"With *: write only what is not there yet."`
}

func (w Write) when() Precondition { return Precondition{Match: w.IfMatch, NoneMatch: w.IfNoneMatch} }
