package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oidc"
)

// An issuer is a provider that admits everybody. Its codes are their own nonces.
type issuer struct {
	*httptest.Server
	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	id     string
	down   bool
	reads  int            // of the keys
	claims map[string]any // of the next ID token, beside the usual ones
	nonce  string
	now    func() time.Time
}

func newIssuer(t *testing.T, now func() time.Time) *issuer {
	t.Helper()
	i := &issuer{now: now}
	i.rotate(t, "k1")
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/auth",
			"token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256", "none", "HS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.reads++
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: i.key.Public(), KeyID: i.id, Algorithm: "ES256", Use: "sig"},
		}})
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" {
			http.Error(w, "no PKCE", http.StatusBadRequest)
			return
		}
		to, _ := url.Parse(q.Get("redirect_uri"))
		to.RawQuery = url.Values{"state": {q.Get("state")}, "code": {q.Get("nonce")}}.Encode()
		http.Redirect(w, r, to.String(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		if r.PostForm.Get("code_verifier") == "" {
			http.Error(w, "no verifier", http.StatusBadRequest)
			return
		}
		nonce := r.PostForm.Get("code")
		if i.nonce != "" {
			nonce = i.nonce
		}
		answer(w, map[string]any{"access_token": "a", "token_type": "Bearer",
			"id_token": i.token(t, map[string]any{"nonce": nonce})})
	})
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.id = key, id
}

// content returns the claims of an ID token: the usual ones, those of the issuer, and more. A nil
// value removes a claim.
func (i *issuer) content(more map[string]any) map[string]any {
	c := map[string]any{"iss": i.URL, "sub": "ada", "aud": "ferry", "iat": i.now().Unix(),
		"exp": i.now().Add(time.Hour).Unix(), "groups": []string{"staff", "ops"},
		"email": "ada@example.org", "email_verified": true}
	for _, m := range []map[string]any{i.claims, more} {
		for k, v := range m {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
	}
	return c
}

func (i *issuer) token(t *testing.T, more map[string]any) string {
	t.Helper()
	return sign(t, jose.ES256, i.key, i.id, i.content(more))
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// A fixture is a service with its issuer and its clock, at url.
type fixture struct {
	*oidc.Service
	issuer *issuer
	now    time.Time
	url    string
	logins []string // that were reported
	use    func(context.Context, string, time.Time) (bool, error)
}

// request returns a request of a program at 192.0.2.1.
func (f *fixture) request(t *testing.T) *http.Request {
	return httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
}

// note returns a function that notes a login.
func (f *fixture) note(outcome string) func(context.Context, string, string) {
	return func(_ context.Context, sender, name string) {
		f.logins = append(f.logins, outcome+" "+name+" from "+sender)
	}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{now: time.Now().Truncate(time.Second)}
	f.issuer = newIssuer(t, func() time.Time { return f.now })
	f.restart(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if oidc.IsPath(r.URL.Path) {
			f.Service.ServeHTTP(w, r)
			return
		}
		p, err := f.Service.Session(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.Write([]byte(p.Name))
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// restart replaces the service, which asks the provider again.
func (f *fixture) restart(t *testing.T) {
	t.Helper()
	rules, err := oidc.ParseRules("ops=admin; baltic=reader:team/*,group=baltic")
	if err != nil {
		t.Fatal(err)
	}
	f.Service = oidc.New(oidc.Options{
		Issuer: f.issuer.URL, ClientID: "ferry", CLIClientID: "cli", Rules: rules, Key: []byte("a key of the test"),
		Address: func(*http.Request) string { return f.url }, Now: func() time.Time { return f.now },
		LoggedIn: f.note("in"), Failed: f.note("refused"), Use: f.use,
	})
}

func TestLoginsAndRefusalsAreReported(t *testing.T) {
	f := newFixture(t)
	want := func(lines ...string) {
		t.Helper()
		if !slices.Equal(f.logins, lines) {
			t.Errorf("got %q, want %q", f.logins, lines)
		}
		f.logins = nil
	}
	newBrowser(t).get(t, f.url+"/login/oidc?return=/me")
	want("in oidc:ada@example.org from 127.0.0.1")
	newBrowser(t).get(t, f.url+"/login/oidc/callback?state=x&code=y")
	want("refused (oidc) from 127.0.0.1")
	f.issuer.claims = map[string]any{"groups": []string{"others"}}
	newBrowser(t).get(t, f.url+"/login/oidc")
	want("refused oidc:ada@example.org from 127.0.0.1")
	f.issuer.claims = nil
	token := f.issuer.token(t, nil)
	for range 3 {
		if _, err := f.Bearer(f.request(t), token); err != nil {
			t.Fatal(err)
		}
	}
	want("in oidc:ada@example.org from 192.0.2.1")
}

func TestBearerTokenHasTheRightsOfItsGroup(t *testing.T) {
	f := newFixture(t)
	for name, test := range map[string]struct {
		claims map[string]any
		want   string
		admin  bool
	}{
		"a verified address":              {nil, "oidc:ada@example.org", true},
		"an address that is not verified": {map[string]any{"email_verified": false}, "oidc:ada", true},
		"a text for a boolean":            {map[string]any{"email_verified": "true"}, "oidc:ada@example.org", true},
		"a group as a text":               {map[string]any{"groups": "ops"}, "oidc:ada@example.org", true},
		"a group with limits": {map[string]any{"groups": []string{"baltic"}},
			"oidc:ada@example.org", false},
		"the client of the command line": {map[string]any{"aud": "cli"}, "oidc:ada@example.org", true},
		"two audiences": {map[string]any{"aud": []string{"other", "cli"}, "azp": "cli"},
			"oidc:ada@example.org", true},
		"a clock that is a little fast": {map[string]any{"exp": f.now.Add(-30 * time.Second).Unix()},
			"oidc:ada@example.org", true},
	} {
		p, err := f.Bearer(f.request(t), f.issuer.token(t, test.claims))
		if err != nil || p.Name != test.want || p.Admin != test.admin || p.Kind != auth.KindOperator {
			t.Errorf("%s: %+v, %v", name, p, err)
			continue
		}
		if !test.admin && (p.Limits.Covers("secret") || !p.Limits.Covers("team/app") ||
			!p.Permissions.AllowsRepository("team/app", auth.ContentRead) ||
			p.Permissions.AllowsRepository("secret", auth.ContentRead)) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestOtherTokensAreRefused(t *testing.T) {
	f := newFixture(t)
	other := newIssuer(t, f.issuer.now)
	unsigned := func(header string) string {
		text, _ := json.Marshal(f.issuer.content(nil))
		b := base64.RawURLEncoding
		return b.EncodeToString([]byte(header)) + "." + b.EncodeToString(text) + "."
	}
	public, err := f.issuer.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another audience":    f.issuer.token(t, map[string]any{"aud": "other"}),
		"no audience":         f.issuer.token(t, map[string]any{"aud": nil}),
		"another's token":     f.issuer.token(t, map[string]any{"aud": []string{"cli", "other"}, "azp": "other"}),
		"unclear audiences":   f.issuer.token(t, map[string]any{"aud": []string{"cli", "other"}}),
		"expired":             f.issuer.token(t, map[string]any{"exp": f.now.Add(-2 * time.Minute).Unix()}),
		"no end":              f.issuer.token(t, map[string]any{"exp": nil}),
		"from the future":     f.issuer.token(t, map[string]any{"iat": f.now.Add(time.Hour).Unix()}),
		"another issuer":      f.issuer.token(t, map[string]any{"iss": other.URL}),
		"no person":           f.issuer.token(t, map[string]any{"sub": ""}),
		"a hostile name":      f.issuer.token(t, map[string]any{"email": "ada\x1b[2J"}),
		"no group":            f.issuer.token(t, map[string]any{"groups": nil}),
		"another group":       f.issuer.token(t, map[string]any{"groups": []any{"staff", 1, nil}}),
		"another form":        f.issuer.token(t, map[string]any{"groups": map[string]any{"ops": true}}),
		"another key":         sign(t, jose.ES256, other.key, "k1", f.issuer.content(nil)),
		"no signature":        unsigned(`{"alg":"none"}`),
		"no algorithm":        unsigned(`{}`),
		"the key as a secret": sign(t, jose.HS256, public, "k1", f.issuer.content(nil)),
		"no token":            "a.b.c",
		"a long token":        f.issuer.token(t, map[string]any{"x": strings.Repeat("x", 20<<10)}),
	} {
		if p, err := f.Bearer(f.request(t), token); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestRotatedKeysAreReadAgainAtALimitedRate(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Bearer(f.request(t), f.issuer.token(t, nil)); err != nil {
		t.Fatal(err)
	}
	f.issuer.rotate(t, "k2")
	good := f.issuer.token(t, nil)
	_, err := f.Bearer(f.request(t), good)
	for err != nil && f.issuer.reads == 1 { // go-oidc shares the answer of a read that is about to end
		_, err = f.Bearer(f.request(t), good)
	}
	if err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	for range 50 {
		f.Bearer(f.request(t), sign(t, jose.ES256, f.issuer.key, rand.Text(), f.issuer.content(nil)))
	}
	if f.issuer.reads > 15 {
		t.Errorf("the keys were read %d times", f.issuer.reads)
	}
	if _, err := f.Bearer(f.request(t), good); err != nil {
		t.Errorf("the right token is refused because of others: %v", err)
	}
}

func TestProviderThatIsDownAdmitsNobodyNew(t *testing.T) {
	f := newFixture(t)
	token := f.issuer.token(t, nil)
	browser := newBrowser(t)
	if got := browser.get(t, f.url+"/login/oidc?return=/me"); got != "200 oidc:ada@example.org" {
		t.Fatal(got)
	}
	f.issuer.down = true
	if _, err := f.Bearer(f.request(t), token); err != nil {
		t.Errorf("a token of a known key: %v", err)
	}
	f.restart(t)
	if p, err := f.Bearer(f.request(t), token); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("after a restart: %+v, %v", p, err)
	}
	if got := newBrowser(t).get(t, f.url+"/login/oidc"); !strings.HasPrefix(got, "503 ") {
		t.Error(got)
	}
	if got := browser.get(t, f.url+"/me"); got != "200 oidc:ada@example.org" {
		t.Errorf("the session: %s", got)
	}
	f.issuer.down = false
	f.now = f.now.Add(time.Minute)
	if _, err := f.Bearer(f.request(t), f.issuer.token(t, nil)); err != nil {
		t.Errorf("when it is up again: %v", err)
	}
}

// A browser keeps cookies.
type browser struct{ *http.Client }

func newBrowser(t *testing.T) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{&http.Client{Jar: jar}}
}

// get returns the status and the text of a page.
func (b browser) get(t *testing.T, address string) string {
	t.Helper()
	resp, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.Status[:3] + " " + strings.TrimSpace(text.String())
}

func TestBrowserLogsInOnceWithEachAnswer(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	var callback *url.URL
	var login []*http.Cookie
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/login/oidc/callback" {
			callback, login = r.URL, b.Jar.Cookies(r.URL)
		}
		return nil
	}
	if got := b.get(t, f.url+"/login/oidc?return=/me"); got != "200 oidc:ada@example.org" {
		t.Fatal(got)
	}
	// The same answer again, with the cookie that the browser had.
	replay := newBrowser(t)
	replay.Jar.SetCookies(callback, login)
	if got := replay.get(t, callback.String()); !strings.HasPrefix(got, "403 ") {
		t.Errorf("a replayed answer: %s", got)
	}
	// The answer of another browser's login.
	if got := newBrowser(t).get(t, callback.String()); !strings.HasPrefix(got, "403 ") {
		t.Errorf("an answer without a login: %s", got)
	}
	f.now = f.now.Add(9 * time.Hour)
	if got := b.get(t, f.url+"/me"); !strings.HasPrefix(got, "401 ") {
		t.Errorf("after the session's end: %s", got)
	}
}

// Each restart is another process of the same root.
func TestLoginEndsOnceAtAnyProcess(t *testing.T) {
	f := newFixture(t)
	db := dbtest.SQLite(t)
	f.use = func(ctx context.Context, state string, end time.Time) (first bool, err error) {
		err = db.Update(ctx, func(tx *metadb.Tx) (err error) {
			first, err = tx.UseLogin(state, f.now, end)
			return err
		})
		return first, err
	}
	f.restart(t)
	b := newBrowser(t)
	var callback *url.URL
	var login []*http.Cookie
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/login/oidc/callback" {
			callback, login = r.URL, b.Jar.Cookies(r.URL)
			f.restart(t)
		}
		return nil
	}
	for range 2 {
		if got := b.get(t, f.url+"/login/oidc?return=/me"); got != "200 oidc:ada@example.org" {
			t.Fatal(got)
		}
		f.restart(t)
		replay := newBrowser(t)
		replay.Jar.SetCookies(callback, login)
		if got := replay.get(t, callback.String()); !strings.HasPrefix(got, "403 ") {
			t.Errorf("an answer that another process has used: %s", got)
		}
		f.now = f.now.Add(time.Hour) // the row of the first login is deleted
	}
}

func TestAnswersOfOtherLoginsAreRefused(t *testing.T) {
	f := newFixture(t)
	f.issuer.nonce = "of another login"
	if got := newBrowser(t).get(t, f.url+"/login/oidc"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("another nonce: %s", got)
	}
	f.issuer.nonce = ""
	f.issuer.claims = map[string]any{"aud": "cli"}
	if got := newBrowser(t).get(t, f.url+"/login/oidc"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("the audience of the command line: %s", got)
	}
	f.issuer.claims = nil
	b := newBrowser(t)
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/login/oidc/callback" {
			q := r.URL.Query()
			q.Set("state", "other")
			r.URL.RawQuery = q.Encode()
		}
		return nil
	}
	if got := b.get(t, f.url+"/login/oidc"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("another state: %s", got)
	}
}

func TestLogoutEndsTheSessionInTheBrowser(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.get(t, f.url+"/login/oidc?return=/me")
	post := func(from string) int {
		r, _ := http.NewRequest(http.MethodPost, f.url+"/logout", nil)
		r.Header.Set("Sec-Fetch-Site", from)
		resp, err := b.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := post("cross-site"); code != 403 {
		t.Errorf("a page elsewhere ends the session: %d", code)
	}
	if code := post("same-origin"); code != 204 {
		t.Errorf("status %d", code)
	}
	if got := b.get(t, f.url+"/me"); !strings.HasPrefix(got, "401 ") {
		t.Error(got)
	}
}

func TestCookiesAreClosedToScriptsAndOtherSites(t *testing.T) {
	f := newFixture(t)
	ask := func(address string) *httptest.ResponseRecorder {
		f.url = address
		w := httptest.NewRecorder()
		f.Service.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/login/oidc?return=https://evil.example", nil))
		return w
	}
	w := ask("https://registry.example/ferry")
	cookies := w.Result().Cookies()
	if w.Code != http.StatusFound || len(cookies) != 1 {
		t.Fatalf("%d %v", w.Code, cookies)
	}
	if c := cookies[0]; !c.HttpOnly || !c.Secure ||
		c.SameSite != http.SameSiteLaxMode || c.Path != "/ferry/login/oidc" {
		t.Errorf("%+v", c)
	}
	if w := ask("http://registry.example"); w.Code != http.StatusForbidden {
		t.Errorf("a login without TLS: %d", w.Code)
	}
}
