package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"ferry/internal/oci"
)

// A ChallengeError is a refusal with a place to log in, or a time to try again.
type ChallengeError struct {
	Err        *oci.Error
	Challenge  string        // the value of WWW-Authenticate; "" is none
	RetryAfter time.Duration // 0 is none
}

// Error implements error.
func (e *ChallengeError) Error() string { return e.Err.Error() }

// Unwrap returns the specification's error.
func (e *ChallengeError) Unwrap() error { return e.Err }

// AuthenticatorOptions configure an Authenticator. Directory and Signer are required.
type AuthenticatorOptions struct {
	Directory Directory
	Signer    *Signer
	// Address returns the URL at which the sender of a request reached this registry,
	// for the challenge; nil is the function [Address].
	Address func(*http.Request) string
	// StandIn returns the repository that answers pulls of a repository that does not exist; "" is
	// none. A token for the one is also for the other, as far as its holder may pull both. nil is
	// none for every repository.
	StandIn func(repository string) string
	// Anonymous returns the rights of requests without credentials from an address. It is cheap.
	// nil gives them none.
	Anonymous func(sender netip.Addr) Permissions
	// People logs people in whom another server knows. nil admits none.
	People People
	// Failed is called with every refused login, unless it is nil. It must be cheap, because
	// strangers decide how often it is called.
	Failed func(ctx context.Context, sender, name string)
	Now    func() time.Time // nil is time.Now
}

// People are the operators that another server knows, such as an OpenID Connect provider. The errors
// wrap [ErrUnauthenticated].
type People interface {
	// Bearer returns the operator of a request with a token of that server.
	Bearer(r *http.Request, token string) (*Principal, error)
	// Session returns the operator of a request with the cookie of a session.
	Session(r *http.Request) (*Principal, error)
}

// An Authenticator authenticates requests. It is safe for concurrent use.
type Authenticator struct {
	directory Directory
	signer    *Signer
	address   func(*http.Request) string
	standIn   func(repository string) string
	anonymous func(sender netip.Addr) Permissions // nil gives no rights
	people    People                              // nil admits none
	failed    func(ctx context.Context, sender, name string)
	limiter   *Limiter
	passwords *passwordCache
	flights   singleflight.Group
	unnamed   atomic.Int64 // requests of anonymous clients that were allowed
}

// NewAuthenticator returns an authenticator over o's directory.
func NewAuthenticator(o AuthenticatorOptions) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Address == nil {
		o.Address = Address
	}
	if o.StandIn == nil {
		o.StandIn = func(string) string { return "" }
	}
	if o.Failed == nil {
		o.Failed = func(context.Context, string, string) {}
	}
	return &Authenticator{
		directory: o.Directory, signer: o.Signer, address: o.Address, standIn: o.StandIn,
		anonymous: o.Anonymous, people: o.People, failed: o.Failed, limiter: NewLimiter(o.Now),
		passwords: newPasswordCache(),
	}
}

// CountFailures counts n failed logins of a sender that another process has refused.
func (a *Authenticator) CountFailures(sender string, n int) { a.limiter.Add(sender, n) }

// Basic returns the principal with the request's name and password. A request without them gets
// [ErrUnauthenticated] too.
func (a *Authenticator) Basic(r *http.Request) (*Principal, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, ErrUnauthenticated
	}
	return a.login(r.Context(), Sender(r), name, password)
}

// Authenticate returns the principal of a request to an API for operators, which takes no signed
// tokens: a name and a password, an operator's API key as a password or alone (Bearer), or a token or
// the session of [People].
func (a *Authenticator) Authenticate(r *http.Request) (*Principal, error) {
	switch {
	case isBearer(r):
		return a.bearer(r, bearerOf(r))
	case a.people != nil && !hasCredentials(r):
		return a.people.Session(r)
	}
	return a.Basic(r)
}

// bearerName stands for the name in the log and in the limits on failed logins, where a bearer token
// came without one.
const bearerName = "(bearer)"

// bearer returns the principal of a bearer token that is no signed token. An API key that is right is
// never limited; a token of [People] is, because its check is slow.
func (a *Authenticator) bearer(r *http.Request, value string) (p *Principal, err error) {
	switch {
	case IsAPIKey(value):
		if p, err = a.directory.AuthenticateKey("", value); errors.Is(err, ErrUnauthenticated) {
			err = a.refuse(Sender(r), bearerName)
		}
	case a.people != nil && strings.Count(value, ".") == 2:
		end, wait := a.limiter.Begin(Sender(r), bearerName)
		if wait > 0 {
			err = tooManyFailures(wait)
			break
		}
		p, err = a.people.Bearer(r, value)
		end(err == nil)
	default:
		err = a.refuse(Sender(r), bearerName)
	}
	if err != nil {
		a.failed(r.Context(), Sender(r), bearerName)
		return nil, err
	}
	return p, nil
}

// bearerOf returns the bearer token of a request.
func bearerOf(r *http.Request) string {
	_, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(value)
}

// hasCredentials reports whether a request has an Authorization header. One that is empty or
// malformed counts: wrong credentials never make a request anonymous.
func hasCredentials(r *http.Request) bool { return len(r.Header["Authorization"]) > 0 }

// errInsufficientScope is the error for a signed token whose scopes do not cover the request.
var errInsufficientScope = errors.New("insufficient_scope")

func isBearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// Limits on a name and a password, in bytes.
const (
	maxName     = 256
	maxPassword = 1024
)

// login returns the principal with a name and password, and reports refused logins.
func (a *Authenticator) login(ctx context.Context, sender, name, password string) (*Principal, error) {
	if name == "" || password == "" {
		return nil, ErrUnauthenticated // clients without a password send an empty one, which is not a guess
	}
	var p *Principal
	var err error
	if len(name) > maxName || len(password) > maxPassword {
		err = a.refuse(sender, name[:min(len(name), maxName)])
	} else {
		p, err = a.check(ctx, sender, name, password)
	}
	if errors.Is(err, ErrUnauthenticated) || errors.As(err, new(*ChallengeError)) {
		a.failed(ctx, sender, name)
	}
	return p, err
}

// check checks a name and a password. A valid machine password or API key is never limited, because
// it cannot have been guessed. Any other login is limited by the failures of its sender, unless the password
// was verified before: otherwise the failures of others behind the same address could lock its
// owner out.
func (a *Authenticator) check(ctx context.Context, sender, name, password string) (*Principal, error) {
	if IsAPIKey(password) {
		p, err := a.directory.AuthenticateKey(name, password)
		if errors.Is(err, ErrUnauthenticated) {
			err = a.refuse(sender, name)
		}
		return p, err
	}
	if isMachinePassword(password) {
		p, known, err := a.directory.AuthenticateToken(name, password)
		if known || err == nil {
			return p, err
		}
	}
	if a.passwords.has(name, password) {
		p, err := a.directory.Authenticate(ctx, name, password)
		if errors.Is(err, ErrUnauthenticated) {
			a.passwords.set(name, password, false)
			if end, wait := a.limiter.Begin(sender, name); wait == 0 {
				end(false)
			}
		}
		return p, err
	}
	// Concurrent equal guesses count as one. The check does not end with the request that started
	// it, because others wait for the same result.
	flight := a.flights.DoChan(sender+" "+a.passwords.text(name, password), func() (any, error) {
		return a.checkOnce(context.WithoutCancel(ctx), sender, name, password)
	})
	select {
	case result := <-flight:
		p, _ := result.Val.(*Principal)
		return p, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Limit counts a request that authenticates with another secret than a password as if it were a login
// with the name. If its sender has failed too often, it returns an error. Otherwise the caller calls end
// once: right reports that the secret was right. Failures are reported like refused logins.
func (a *Authenticator) Limit(r *http.Request, name string) (end func(right bool), err error) {
	done, wait := a.limiter.Begin(Sender(r), name)
	if wait > 0 {
		a.failed(r.Context(), Sender(r), name)
		return nil, tooManyFailures(wait)
	}
	return func(right bool) {
		done(right)
		if !right {
			a.failed(r.Context(), Sender(r), name)
		}
	}, nil
}

// refuse counts a failure, without a check. It returns the error for the login.
func (a *Authenticator) refuse(sender, name string) error {
	end, wait := a.limiter.Begin(sender, name)
	if wait > 0 {
		return tooManyFailures(wait)
	}
	end(false)
	return ErrUnauthenticated
}

func tooManyFailures(wait time.Duration) error {
	return &ChallengeError{Err: oci.ErrTooManyRequests.With("too many failed logins"), RetryAfter: wait}
}

// checkOnce checks a name and a password, unless there were too many failures.
func (a *Authenticator) checkOnce(ctx context.Context, sender, name, password string) (*Principal, error) {
	end, wait := a.limiter.Begin(sender, name)
	if wait > 0 {
		return nil, tooManyFailures(wait)
	}
	p, err := a.directory.Authenticate(ctx, name, password)
	end(!errors.Is(err, ErrUnauthenticated))
	if err == nil {
		a.passwords.set(name, password, true)
	}
	return p, err
}

// challenge returns the error for the client of a failed authentication.
func (a *Authenticator) challenge(r *http.Request, err error, need []Access) error {
	if !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, errInsufficientScope) {
		return err // it is a refusal already, or a failure of the registry
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
	case hasCredentials(r):
		e = e.With("invalid user name or password")
	}
	return &ChallengeError{Err: e, Challenge: text}
}

// The headers in which a request has the address at which its sender reached this registry,
// where that is another one than the connection's. The server removes those that no trusted
// proxy sent.
const (
	HeaderProto  = "X-Forwarded-Proto"
	HeaderPrefix = "X-Forwarded-Prefix"
)

// Address returns the URL at which the sender of r reached this registry.
func Address(r *http.Request) string {
	scheme := "http://"
	if r.TLS != nil || strings.EqualFold(r.Header.Get(HeaderProto), "https") {
		scheme = "https://"
	}
	return scheme + r.Host + r.Header.Get(HeaderPrefix)
}

// Sender returns the address from which a request came, without its port.
func Sender(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
