// Package oidc logs people in with an OpenID Connect provider: the code flow with PKCE for browsers,
// whose session is a signed cookie, and ID tokens as bearer tokens for the command line. Begin at
// [New]. A provider that does not answer ends no session, and admits nobody new.
package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"ferry/internal/auth"
	"ferry/internal/retry"
)

// Limits on the provider, which must not slow down or fill an instance.
const (
	callTimeout = 10 * time.Second
	maxAnswer   = 1 << 20          // bytes
	discoverFor = 24 * time.Hour   // until the provider's addresses are read again
	retryAfter  = 10 * time.Second // a failure, until the provider is asked again
	clockSkew   = time.Minute      // that is allowed for the end of an ID token
	maxIDToken  = 16 << 10         // bytes
	maxName     = 200              // bytes of a person's name
	readsAtOnce = 10               // of addresses and keys, in a burst; then one every readEvery
	readEvery   = 5 * time.Second
)

// algorithms are those with which an ID token may be signed. There are none with a shared secret,
// and not "none".
func algorithms() []string {
	return []string{gooidc.RS256, gooidc.RS384, gooidc.RS512, gooidc.PS256, gooidc.PS384, gooidc.PS512, gooidc.ES256,
		gooidc.ES384, gooidc.ES512, gooidc.EdDSA}
}

// Options configure a Service. Issuer, ClientID, Rules, Key and Address are required.
type Options struct {
	Issuer       string
	ClientID     string // of the instance
	ClientSecret string // "" for a public client
	CLIClientID  string // of the command line; "" is ClientID
	// CLIClientSecret is given to everybody who asks: some providers want a secret from programs
	// that can keep none.
	CLIClientSecret string
	GroupsClaim     string // the claim with a person's groups; "" is groups
	Rules           Rules
	CA              *x509.CertPool // of the provider; nil is the machine's
	Key             []byte         // signs sessions
	// Address returns the URL at which the sender of a request reached this instance.
	Address func(*http.Request) string
	// LoggedIn is called with each login of a browser, and with the first use of an ID token; Failed with
	// each refused login of a browser. nil does nothing.
	LoggedIn, Failed func(ctx context.Context, sender, name string)
	// Use reports whether no process with the same Key has ended the login with a state before. end is
	// when the login is not accepted any more. nil is a process alone.
	Use func(ctx context.Context, state string, end time.Time) (bool, error)

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is time.Now
}

// A Service logs people in. It is safe for concurrent use.
type Service struct {
	Options
	signed sealer
	client *http.Client
	used   usedStates
	seen   usedStates // hashes of ID tokens that were used as bearer tokens

	mu       sync.Mutex
	provider *gooidc.Provider
	readAt   time.Time // when provider was read, or reading it failed
	failure  error
}

// New returns a service. It does not ask the provider yet.
func New(o Options) *Service {
	o.GroupsClaim = cmp.Or(o.GroupsClaim, "groups")
	o.CLIClientID = cmp.Or(o.CLIClientID, o.ClientID)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	nobody := func(context.Context, string, string) {}
	if o.LoggedIn == nil {
		o.LoggedIn = nobody
	}
	if o.Failed == nil {
		o.Failed = nobody
	}
	return &Service{Options: o, signed: sealer{o.Key}, client: NewClient(o.CA),
		used: usedStates{at: map[string]time.Time{}}, seen: usedStates{at: map[string]time.Time{}}}
}

// NewClient returns a client for a provider. It follows no redirect, and reads a bounded answer in a
// bounded time.
func NewClient(ca *x509.CertPool) *http.Client {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: callTimeout}).DialContext,
		TLSHandshakeTimeout: callTimeout, TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12},
		MaxIdleConns: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
	return &http.Client{
		Timeout: callTimeout, Transport: &bounded{t, rate.NewLimiter(rate.Every(readEvery), readsAtOnce)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded bounds the answers, and how often a stranger's unknown keys make it read those of the
// provider.
type bounded struct {
	http.RoundTripper
	reads *rate.Limiter
}

var errTooOften = errors.New("the provider was asked too often in a short time")

// RoundTrip implements [http.RoundTripper].
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && !b.reads.Allow() {
		return nil, errTooOften
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// unreached returns the error for a provider that gave no answer.
func unreached(issuer string, err error) error {
	return fmt.Errorf("ask the OIDC provider %s: %w", issuer, retry.Unanswered(err, "it", callTimeout))
}

// discovered returns the provider. It reads the provider's addresses if they are not known yet, or
// too old. Concurrent callers wait for the same answer.
func (s *Service) discovered() (*gooidc.Provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.Now().Sub(s.readAt)
	if s.failure != nil && age >= 0 && age < retryAfter {
		if s.provider != nil {
			return s.provider, nil
		}
		return nil, s.failure
	}
	if s.failure == nil && s.provider != nil && age < discoverFor {
		return s.provider, nil
	}
	// The provider keeps the context for its later calls.
	p, err := gooidc.NewProvider(gooidc.ClientContext(context.Background(), s.client), s.Issuer)
	s.readAt, s.failure = s.Now(), err
	if err == nil {
		s.provider = p
	} else {
		s.failure = unreached(s.Issuer, err)
		s.Log.Warn("the OIDC provider does not answer", "err", s.failure)
	}
	if s.provider != nil {
		return s.provider, nil // with the addresses that it had
	}
	return nil, s.failure
}

// oauth returns the settings of the code flow.
func (s *Service) oauth(p *gooidc.Provider, r *http.Request) *oauth2.Config {
	return &oauth2.Config{
		ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: p.Endpoint(),
		RedirectURL: s.Address(r) + callbackPath, Scopes: Scopes(),
	}
}

// Scopes are the scopes that a login asks for.
func Scopes() []string { return []string{gooidc.ScopeOpenID, "profile", "email", "groups"} }

// claims are the claims of an ID token about a person.
type claims struct {
	Email         string  `json:"email"`
	EmailVerified boolean `json:"email_verified"`
	AuthorizedFor string  `json:"azp"`
}

// verify returns the person of an ID token for one of the clients, and the end of the token.
func (s *Service) verify(ctx context.Context, raw, nonce string, clients ...string) (*Person, time.Time, error) {
	if len(raw) > maxIDToken {
		return nil, time.Time{}, errors.New("the ID token is too long")
	}
	p, err := s.discovered()
	if err != nil {
		return nil, time.Time{}, err
	}
	token, err := p.Verifier(&gooidc.Config{
		SkipClientIDCheck: true, SupportedSigningAlgs: algorithms(),
		Now: func() time.Time { return s.Now().Add(-clockSkew) },
	}).Verify(gooidc.ClientContext(ctx, s.client), raw)
	if err != nil {
		return nil, time.Time{}, err
	}
	var c claims
	var all map[string]any
	if err := errors.Join(token.Claims(&c), token.Claims(&all)); err != nil {
		return nil, time.Time{}, errors.New("the claims of the ID token are malformed")
	}
	audience := func(client string) bool { return slices.Contains(token.Audience, client) }
	switch {
	case !slices.ContainsFunc(clients, audience):
		return nil, time.Time{}, errors.New("the ID token is for another client")
	case c.AuthorizedFor != "" && !slices.Contains(clients, c.AuthorizedFor),
		c.AuthorizedFor == "" && len(token.Audience) > 1:
		return nil, time.Time{}, errors.New("the ID token was issued to another client")
	case token.Nonce != nonce && nonce != "":
		return nil, time.Time{}, errors.New("the ID token is of another login")
	case token.IssuedAt.After(s.Now().Add(clockSkew)):
		return nil, time.Time{}, errors.New("the ID token is from the future")
	case token.Subject == "":
		return nil, time.Time{}, errors.New("the ID token names nobody")
	}
	name := token.Subject
	if c.Email != "" && bool(c.EmailVerified) {
		name = c.Email
	}
	if len(name) > maxName || strings.ContainsFunc(name, notInName) {
		return nil, time.Time{}, errors.New("the name in the ID token is too long, or not printable")
	}
	person, ok := s.Rules.person(name, groupsIn(all[s.GroupsClaim]))
	if !ok {
		return nil, time.Time{}, &strangerError{name}
	}
	return person, token.Expiry.Add(clockSkew), nil
}

// Bearer returns the operator of a request with an ID token. The error wraps [auth.ErrUnauthenticated], whatever
// the fault is.
func (s *Service) Bearer(r *http.Request, raw string) (*auth.Principal, error) {
	person, end, err := s.verify(r.Context(), raw, "", s.CLIClientID, s.ClientID)
	if err != nil {
		s.Log.Info("an ID token is refused", "err", err)
		return nil, auth.ErrUnauthenticated
	}
	p, hash := person.principal(), sha256.Sum256([]byte(raw))
	if s.seen.use(string(hash[:]), end, s.Now()) {
		s.LoggedIn(r.Context(), auth.Sender(r), p.Name)
	}
	return p, nil
}

// A strangerError is the error for a person whom the provider knows, and who has no rights here.
type strangerError struct{ name string }

// Error implements error.
func (e *strangerError) Error() string {
	return e.name + " is in no group that may manage this registry"
}

// Unwrap makes it an [auth.ErrUnauthenticated].
func (e *strangerError) Unwrap() error { return auth.ErrUnauthenticated }

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// CheckIssuer returns an error unless an issuer's address is safe: https, or http on this machine.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return fmt.Errorf("%.200q is not the address of an OIDC provider: want https://", issuer)
	}
	return nil
}
