package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// memoryDirectory is a directory in memory.
type memoryDirectory struct {
	passwords  map[string]string
	principals map[string]*auth.Principal
	operators  map[string]bool
	keys       map[string]string // the operator of each API key
	mu         sync.Mutex
	asked      int           // the number of password checks
	slow       chan struct{} // each check waits for a value; nil does not wait
	anonymous  auth.Permissions
	networks   []netip.Prefix // of anonymous clients
}

func (p *memoryDirectory) at(sender netip.Addr) auth.Permissions {
	for _, n := range p.networks {
		if n.Contains(sender) {
			return p.anonymous
		}
	}
	return auth.Permissions{}
}

func (p *memoryDirectory) AuthenticateToken(name, password string) (*auth.Principal, bool, error) {
	if _, token := p.passwords[name]; !token || p.operators[name] {
		return nil, false, auth.ErrUnauthenticated
	}
	if p.passwords[name] != password {
		return nil, true, auth.ErrUnauthenticated
	}
	principal, err := p.Lookup(context.Background(), auth.KindToken, name, "")
	return principal, true, err
}

func (p *memoryDirectory) AuthenticateKey(name, key string) (*auth.Principal, error) {
	if owner := p.keys[key]; owner != "" && (name == "" || name == owner) {
		return p.Lookup(context.Background(), auth.KindOperator, owner, "")
	}
	return nil, auth.ErrUnauthenticated
}

func (p *memoryDirectory) Authenticate(_ context.Context, name, password string) (*auth.Principal, error) {
	p.mu.Lock()
	p.asked++
	p.mu.Unlock()
	if p.slow != nil {
		<-p.slow
	}
	if want, ok := p.passwords[name]; !ok || want != password {
		return nil, auth.ErrUnauthenticated
	}
	return p.Lookup(context.Background(), auth.KindToken, name, "")
}

func (p *memoryDirectory) Lookup(_ context.Context, _ auth.Kind, name, _ string) (*auth.Principal, error) {
	if principal, ok := p.principals[name]; ok {
		return principal, nil
	}
	return nil, auth.ErrUnauthenticated
}

// A fixture is an authenticator behind HTTP: the token endpoint, and /v2/, whose query lists the
// accesses that a request needs.
type fixture struct {
	*auth.Authenticator
	directory *memoryDirectory
	url       string
	host      string
	now       time.Time
}

// newFixtureWithoutServer returns a fixture without an HTTP server.
func newFixtureWithoutServer(t *testing.T) *fixture {
	t.Helper()
	d := &fixture{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), directory: &memoryDirectory{
		passwords: map[string]string{"puller": "secret", "pusher": "secret"},
		principals: map[string]*auth.Principal{
			"puller": principal(t, "puller", "repositories/team/*/content/read"),
			"pusher": principal(t, "pusher", "repositories/a/content/read", "repositories/a/content/write",
				"repositories/a/metadata/read", "gateway/ship01/message/read"),
		},
	}}
	clock := func() time.Time { return d.now }
	signer, err := auth.NewSigner(auth.NewSigningKey(), clock)
	if err != nil {
		t.Fatal(err)
	}
	d.Authenticator = auth.NewAuthenticator(auth.AuthenticatorOptions{
		Directory: d.directory, Signer: signer, Now: clock, Anonymous: d.directory.at,
	})
	return d
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	d := newFixtureWithoutServer(t)
	mux := http.NewServeMux()
	mux.Handle("/oauth2/token", d.TokenHandler(slog.New(slog.DiscardHandler)))
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		var need []auth.Access
		for _, text := range r.URL.Query()["need"] {
			repository, action, _ := strings.Cut(text, "|")
			need = append(need, auth.Access{Repository: repository, Action: auth.Action(action)})
		}
		grant, err := d.Authorize(r, need...)
		if c := (*auth.ChallengeError)(nil); errors.As(err, &c) {
			c.SetHeaders(w.Header())
		}
		if err != nil {
			oci.WriteError(w, oci.AsError(err))
			return
		}
		io.WriteString(w, grant.Name())
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	d.url, d.host = srv.URL, srv.URL[len("http://"):]
	return d
}

func principal(t *testing.T, name string, actions ...string) *auth.Principal {
	t.Helper()
	p, err := auth.ParsePermissions(actions)
	if err != nil {
		t.Fatal(err)
	}
	return &auth.Principal{Kind: auth.KindToken, Name: name, Permissions: p}
}

// get sends a GET request with an Authorization header.
func (d *fixture) get(t *testing.T, path, authorization string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", d.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// basic returns the Authorization header for a name and a password.
func basic(name, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

// A tokenAnswer is an answer of the token endpoint.
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	IssuedAt    string `json:"issued_at"`
}

// token requests a token for the scopes.
func (d *fixture) token(t *testing.T, name string, scopes ...string) string {
	t.Helper()
	resp, body := d.get(t, "/oauth2/token?"+url.Values{"service": {d.host}, "scope": scopes}.Encode(),
		basic(name, "secret"))
	var a tokenAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil || resp.StatusCode != 200 || a.Token == "" ||
		a.Token != a.AccessToken {
		t.Fatalf("%d %s: %v", resp.StatusCode, body, err)
	}
	return a.Token
}
