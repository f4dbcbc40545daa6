package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"ferry/internal/oci"
)

// An Access is an action on a repository. With an empty repository it is
// what any principal may do: to be greeted, and to see a catalog of what it
// may read.
type Access struct {
	Repository string
	Action     Action
}

// A Grant is what a request may do: what its principal may do here and now
// and, for a request with a signed token, the token was made for.
type Grant struct {
	principal *Principal
	scopes    []Scope // of a signed token
	limited   bool    // whether the scopes count
	source    string  // the address that the request came from
}

// AllowsRepository reports whether the request may do action on repository.
func (g Grant) AllowsRepository(repository string, action Action) bool {
	if g.principal == nil || !g.principal.Permissions.AllowsRepository(repository, action) {
		return false
	}
	return !g.limited || slices.ContainsFunc(g.scopes, func(s Scope) bool { return s.allows(repository, action) })
}

// Name is whose request it is; "" is nobody's.
func (g Grant) Name() string {
	if g.principal == nil {
		return ""
	}
	return g.principal.Name
}

// Source is the address that the request came from.
func (g Grant) Source() string { return g.source }

// MayList reports whether the catalog shows the repository to the principal.
func (g Grant) MayList(repository string) bool {
	return g.principal != nil && (g.principal.Permissions.AllowsRepository(repository, MetadataRead) ||
		g.principal.Permissions.AllowsRepository(repository, ContentRead))
}

// A ChallengeError is a refusal that says where to log in, or when to try again.
type ChallengeError struct {
	Err        *oci.Error
	Challenge  string        // the value of WWW-Authenticate; "" is none
	RetryAfter time.Duration // 0 is none
}

// Error implements error.
func (e *ChallengeError) Error() string { return e.Err.Error() }

// Unwrap returns the specification's error.
func (e *ChallengeError) Unwrap() error { return e.Err }

// AuthenticatorOptions are what an Authenticator is made of. Directory and
// Signer are required.
type AuthenticatorOptions struct {
	Directory Directory
	Signer    *Signer
	// Address is where the sender of a request reached this registry, scheme
	// and host, for the challenge; nil is the function [Address].
	Address func(*http.Request) string
	// Failed is called with every login that was refused; nil is not called. It must be
	// cheap, because strangers decide how often it is called.
	Failed func(ctx context.Context, source, name string)
	Now    func() time.Time // nil is time.Now
}

// An Authenticator finds out who sent a request. It is safe for concurrent use.
type Authenticator struct {
	directory Directory
	signer    *Signer
	address   func(*http.Request) string
	failed    func(ctx context.Context, source, name string)
	limiter   *Limiter
	proven    *proven
	flights   singleflight.Group
}

// NewAuthenticator returns an authenticator over o's directory.
func NewAuthenticator(o AuthenticatorOptions) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Address == nil {
		o.Address = Address
	}
	if o.Failed == nil {
		o.Failed = func(context.Context, string, string) {}
	}
	return &Authenticator{
		directory: o.Directory, signer: o.Signer, address: o.Address, failed: o.Failed,
		limiter: NewLimiter(o.Now), proven: newProven(),
	}
}

// Authorize returns the grant of a request that may have every access in
// need. Otherwise the error is a [*ChallengeError], for a request without
// good credentials, or is [oci.ErrDenied].
func (a *Authenticator) Authorize(r *http.Request, need ...Access) (Grant, error) {
	g, err := a.grant(r)
	if err != nil {
		return Grant{}, a.challenge(r, err, need)
	}
	for _, n := range need {
		if n.Repository == "" || g.AllowsRepository(n.Repository, n.Action) {
			continue
		}
		if g.limited && g.principal.Permissions.AllowsRepository(n.Repository, n.Action) {
			// The client may have more, and has to ask for it.
			return Grant{}, a.challenge(r, errInsufficientScope, need)
		}
		return Grant{}, oci.ErrDenied.With("Insufficient scopes to perform the operation")
	}
	return g, nil
}

// Basic returns whose name and password a request has. A request without
// them gets [ErrUnauthenticated] too.
func (a *Authenticator) Basic(r *http.Request) (*Principal, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, ErrUnauthenticated
	}
	return a.login(r.Context(), source(r), name, password)
}

// errInsufficientScope is a signed token that was made for something else.
var errInsufficientScope = errors.New("insufficient_scope")

func (a *Authenticator) grant(r *http.Request) (Grant, error) {
	if isBearer(r) {
		_, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		c, err := a.signer.read(strings.TrimSpace(value))
		if err != nil {
			return Grant{}, err
		}
		p, err := a.directory.Lookup(r.Context(), c.Kind, c.Subject, c.Generation)
		return Grant{principal: p, scopes: c.Access, limited: true, source: source(r)}, err
	}
	p, err := a.Basic(r)
	return Grant{principal: p, source: source(r)}, err
}

func isBearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// Limits on what is looked at as a name or a password, in bytes.
const (
	maxName     = 256
	maxPassword = 1024
)

// login returns whose name and password these are, and tells of those that are refused.
func (a *Authenticator) login(ctx context.Context, source, name, password string) (*Principal, error) {
	if name == "" || password == "" || len(name) > maxName || len(password) > maxPassword {
		return nil, ErrUnauthenticated // nobody's; clients that have no password send an empty one
	}
	p, err := a.check(ctx, source, name, password)
	if errors.Is(err, ErrUnauthenticated) || errors.As(err, new(*ChallengeError)) {
		a.failed(ctx, source, name)
	}
	return p, err
}

// check checks a name and a password. A machine password that is right is never
// slowed down: it cannot have been guessed. For any other its sender must not have
// failed too often, unless it was right before, so that failures of others who share
// its sender's address cannot lock it out.
func (a *Authenticator) check(ctx context.Context, source, name, password string) (*Principal, error) {
	if isMachinePassword(password) {
		p, known, err := a.directory.AuthenticateToken(name, password)
		if known || err == nil {
			return p, err
		}
	}
	if a.proven.has(name, password) {
		p, err := a.directory.Authenticate(ctx, name, password)
		if errors.Is(err, ErrUnauthenticated) {
			a.proven.set(name, password, false)
			if end, wait := a.limiter.Begin(source, name); wait == 0 {
				end(false)
			}
		}
		return p, err
	}
	// The same guess at the same time is one guess. It is not the first's alone,
	// who may leave.
	flight := a.flights.DoChan(source+" "+a.proven.text(name, password), func() (any, error) {
		return a.checkOnce(context.WithoutCancel(ctx), source, name, password)
	})
	select {
	case result := <-flight:
		p, _ := result.Val.(*Principal)
		return p, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// checkOnce checks a name and a password, unless their sender failed too often.
func (a *Authenticator) checkOnce(ctx context.Context, source, name, password string) (*Principal, error) {
	end, wait := a.limiter.Begin(source, name)
	if wait > 0 {
		return nil, &ChallengeError{Err: oci.ErrTooManyRequests.With("too many failed logins"), RetryAfter: wait}
	}
	p, err := a.directory.Authenticate(ctx, name, password)
	end(!errors.Is(err, ErrUnauthenticated))
	if err == nil {
		a.proven.set(name, password, true)
	}
	return p, err
}

// challenge turns a failed authentication into what the client is told.
func (a *Authenticator) challenge(r *http.Request, err error, need []Access) error {
	if !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, errInsufficientScope) {
		return err // its own refusal, or the registry's failure
	}
	text := fmt.Sprintf(`Bearer realm="%s/oauth2/token",service="%s"`, a.address(r), r.Host)
	if scope := scopeFor(need); scope != "" {
		text += fmt.Sprintf(`,scope="%s"`, scope)
	}
	e := oci.ErrUnauthorized
	switch {
	case errors.Is(err, errInsufficientScope):
		text += `,error="insufficient_scope"`
	case isBearer(r):
		text += `,error="invalid_token"`
	case r.Header.Get("Authorization") != "":
		e = e.With("invalid user name or password")
	}
	return &ChallengeError{Err: e, Challenge: text}
}

// Address is where the sender of r reached this registry: scheme and host.
func Address(r *http.Request) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// source is the address that a request came from, without its port.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
