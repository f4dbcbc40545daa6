package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/auth"
)

func TestChallengeSuitsEveryClient(t *testing.T) {
	d := newFixture(t)
	start := `Bearer realm="` + d.url + `/oauth2/token",service="` + d.host + `"`
	for _, test := range []struct{ name, query, authorization, want string }{
		{"a greeting", "", "", start},
		{"a pull", "?need=team/app|content/read", "", start + `,scope="repository:team/app:pull"`},
		{"a push", "?need=a|content/read&need=a|content/write", "", start + `,scope="repository:a:pull,push"`},
		{"a mount", "?need=a|content/read&need=a|content/write&need=b|content/read", "",
			start + `,scope="repository:a:pull,push repository:b:pull"`},
		{"a delete", "?need=a|content/delete", "", start + `,scope="repository:a:delete"`},
		{"a listing", "?need=a|metadata/read", "", start + `,scope="repository:a:metadata_read"`},
		{"a wrong password", "", basic("puller", "wrong"), start},
		{"a token that is none", "?need=a|content/read", "Bearer x.y.z",
			start + `,scope="repository:a:pull",error="invalid_token"`},
		{"another scheme", "", "Digest x", start},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := d.get(t, "/v2/"+test.query, test.authorization)
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != test.want ||
				!strings.Contains(body, `"UNAUTHORIZED"`) {
				t.Errorf("%d %s %s, want %s", resp.StatusCode, got, body, test.want)
			}
		})
	}
}

func TestRequestNeedsRightsOfPrincipalAndToken(t *testing.T) {
	d := newFixture(t)
	pull := d.token(t, "puller", "repository:team/app:pull,push")
	all := d.token(t, "pusher", "repository:a:*")
	none := d.token(t, "pusher")
	for _, test := range []struct {
		name, authorization, need string
		status                    int
		words                     string
	}{
		{"Basic", basic("puller", "secret"), "team/app|content/read", 200, "puller"},
		{"Basic, and no right", basic("puller", "secret"), "team/app|content/write", 403,
			"Insufficient scopes to perform the operation"},
		{"Basic, and another repository", basic("puller", "secret"), "teams/app|content/read", 403, "DENIED"},
		{"a token", "Bearer " + pull, "team/app|content/read", 200, "puller"},
		{"a scheme in another case", "bearer " + pull, "team/app|content/read", 200, "puller"},
		{"a token, and what it asked for in vain", "Bearer " + pull, "team/app|content/write", 403, "DENIED"},
		{"a token for another repository", "Bearer " + pull, "team/web|content/read", 401, "UNAUTHORIZED"},
		{"a token for all that is allowed", "Bearer " + all, "a|content/write", 200, "pusher"},
		{"a token for all, and what is not", "Bearer " + all, "a|content/delete", 403, "DENIED"},
		{"to list tags with a token to pull", "Bearer " + d.token(t, "pusher", "repository:a:pull"), "a|metadata/read",
			200, "pusher"},
		{"a greeting with a token for nothing", "Bearer " + none, "", 200, "pusher"},
		{"a pull with a token for nothing", "Bearer " + none, "a|content/read", 401, "UNAUTHORIZED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			query := ""
			if test.need != "" {
				query = "?need=" + url.QueryEscape(test.need)
			}
			resp, body := d.get(t, "/v2/"+query, test.authorization)
			if resp.StatusCode != test.status || !strings.Contains(body, test.words) {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, body, test.status, test.words)
			}
		})
	}
}

func TestSignedTokenHasItsHoldersCurrentRights(t *testing.T) {
	d := newFixture(t)
	token := "Bearer " + d.token(t, "puller", "repository:team/app:pull")
	status := func() int {
		resp, _ := d.get(t, "/v2/?need=team/app|content/read", token)
		return resp.StatusCode
	}
	if status() != 200 {
		t.Fatal("the token is refused at first")
	}
	d.directory.principals["puller"] = principal(t, "puller", "repositories/other/content/read")
	if got := status(); got != 403 {
		t.Errorf("without the right: %d", got)
	}
	delete(d.directory.principals, "puller")
	if got := status(); got != 401 {
		t.Errorf("disabled: %d", got)
	}
}

func TestSignedTokenExpires(t *testing.T) {
	d := newFixture(t)
	token := "Bearer " + d.token(t, "puller", "repository:team/app:pull")
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{0, 200}, {4 * time.Minute, 200}, {6 * time.Minute, 401}} {
		d.now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).Add(test.after)
		if resp, _ := d.get(t, "/v2/", token); resp.StatusCode != test.want {
			t.Errorf("after %v: %d, want %d", test.after, resp.StatusCode, test.want)
		}
	}
}

func TestAnonymousGrantAllowsNothing(t *testing.T) {
	if (auth.Grant{}).AllowsRepository("a", auth.ContentRead) || (auth.Grant{}).MayList("a") {
		t.Error("an anonymous grant allows something")
	}
}

// from logs in from an address.
func (d *fixture) from(address, name, password string) error {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = address
	r.SetBasicAuth(name, password)
	_, err := d.Basic(r)
	return err
}

func TestPasswordGuessesAreLimited(t *testing.T) {
	d := newFixture(t)
	tries := 0
	for ; tries < 100; tries++ {
		if err := d.from("10.0.0.1:1", "puller", "guess"); !isUnauthenticated(err) {
			break
		}
	}
	if tries != 10 {
		t.Errorf("%d guesses of one name were allowed", tries)
	}
	if d.directory.asked != tries {
		t.Errorf("%d passwords were checked", d.directory.asked)
	}
	// One address guesses many names.
	for tries = 0; tries < 1000; tries++ {
		if err := d.from("10.0.0.2:1", "name"+time.Duration(tries).String(), "guess"); !isUnauthenticated(err) {
			break
		}
	}
	if tries != 100 {
		t.Errorf("%d guesses from one address were allowed", tries)
	}
	d.now = d.now.Add(time.Minute)
	if err := d.from("10.0.0.1:1", "puller", "secret"); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

func TestFailedLoginsOfAnyLengthCount(t *testing.T) {
	d := newFixture(t)
	var failed []string
	d.Authenticator = auth.NewAuthenticator(auth.AuthenticatorOptions{
		Directory: d.directory, Now: func() time.Time { return d.now },
		Failed: func(_ context.Context, _, name string) { failed = append(failed, name[:4]) },
	})
	for i, test := range []struct{ name, password string }{
		{strings.Repeat("n", 300), "guess"},
		{strings.Repeat("n", 3000), "guess"},
		{"puller", strings.Repeat("p", 3000)},
	} {
		failed = nil
		address, tries := fmt.Sprintf("10.0.0.%d:1", i), 0
		for ; tries < 100 && isUnauthenticated(d.from(address, test.name, test.password)); tries++ {
		}
		if tries != 10 || len(failed) != tries+1 || failed[0] != test.name[:4] {
			t.Errorf("%d and %d bytes: %d guesses were allowed, %d logins are reported", len(test.name),
				len(test.password), tries, len(failed))
		}
	}
	if d.directory.asked > 0 {
		t.Errorf("%d passwords were checked", d.directory.asked)
	}
}

func TestConcurrentPasswordGuessesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFixtureWithoutServer(t)
		d.directory.slow = make(chan struct{})
		refused := make(chan error, 1000)
		for n := range 1000 {
			go func() { refused <- d.from("10.0.0.1:1", "puller", fmt.Sprint("guess ", n)) }()
		}
		synctest.Wait()
		if d.directory.asked != 10 || len(refused) != 990 {
			t.Errorf("%d of 1,000 guesses were checked, %d were refused", d.directory.asked, len(refused))
		}
		close(d.directory.slow)
		synctest.Wait()
		if len(refused) != 1000 {
			t.Errorf("%d were answered", len(refused))
		}
	})
}

func TestConcurrentEqualLoginsAreCheckedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFixtureWithoutServer(t)
		d.directory.slow = make(chan struct{})
		first, leave := context.WithCancel(t.Context())
		results := make(chan error, 50)
		for n := range 50 {
			ctx := t.Context()
			if n == 0 {
				ctx = first
			}
			go func() {
				r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
				r.SetBasicAuth("puller", "secret")
				_, err := d.Basic(r)
				results <- err
			}()
			synctest.Wait()
		}
		leave() // the others must not depend on the first
		synctest.Wait()
		close(d.directory.slow)
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
		for range 49 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if d.directory.asked != 1 {
			t.Errorf("the password was checked %d times", d.directory.asked)
		}
	})
}

func TestMachinePasswordsAreNeverLimited(t *testing.T) {
	d := newFixture(t)
	right, err := auth.GeneratePassword(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := auth.GeneratePassword(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d.directory.passwords["puller"] = right
	for n := range 200 { // all behind one address
		_ = d.from("10.0.0.1:1", fmt.Sprint("name", n), "guess")
		_ = d.from("10.0.0.1:1", "puller", "guess")
	}
	if err := d.from("10.0.0.1:1", "puller", right); err != nil {
		t.Errorf("the first login: %v", err)
	}
	asked := d.directory.asked
	for range 200 { // a cluster with an old password locks nobody out
		if err := d.from("10.0.0.2:1", "puller", wrong); !isUnauthenticated(err) {
			t.Fatal(err)
		}
	}
	if err := d.from("10.0.0.2:1", "pusher", "secret"); err != nil || d.directory.asked != asked+1 {
		t.Errorf("%v, after %d checks", err, d.directory.asked-asked)
	}
	// An operator's password may look like a machine password. Guesses of it must be limited.
	d.directory.operators = map[string]bool{"puller": true}
	tries := 0
	for ; tries < 100 && isUnauthenticated(d.from("10.0.0.3:1", "puller", wrong)); tries++ {
	}
	if tries != 10 {
		t.Errorf("%d guesses of an operator's password were allowed", tries)
	}
}

func TestStrangersCannotLockOutAName(t *testing.T) {
	d := newFixture(t)
	if err := d.from("10.0.0.1:1", "puller", "secret"); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		_ = d.from("10.0.0.66:1", "puller", "guess")
		_ = d.from("10.0.0.1:2", "puller", "guess") // another client behind the same address
	}
	if err := d.from("10.0.0.2:1", "puller", "secret"); err != nil {
		t.Errorf("from another address: %v", err)
	}
	if err := d.from("10.0.0.1:1", "puller", "secret"); err != nil {
		t.Errorf("from the same address, with a password that was verified before: %v", err)
	}
	// A password that is no longer right must be limited.
	d.directory.passwords["puller"] = "new"
	if err := d.from("10.0.0.1:1", "puller", "secret"); !isUnauthenticated(err) {
		t.Error(err)
	}
	if err := d.from("10.0.0.1:1", "puller", "secret"); err == nil || isUnauthenticated(err) {
		t.Errorf("%v, want it limited", err)
	}
}

func isUnauthenticated(err error) bool { return err == auth.ErrUnauthenticated }

func TestLimitedLoginsGetRetryAfter(t *testing.T) {
	d := newFixture(t)
	for range 11 {
		d.get(t, "/v2/", basic("puller", "guess"))
	}
	for _, path := range []string{"/v2/", "/oauth2/token"} {
		resp, body := d.get(t, path, basic("puller", "guess"))
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "6" ||
			!strings.Contains(body, `"TOOMANYREQUESTS"`) {
			t.Errorf("%s: %d %q %s", path, resp.StatusCode, resp.Header.Get("Retry-After"), body)
		}
	}
}

func TestAddressIsTheOneThatTheCallerUsed(t *testing.T) {
	r := httptest.NewRequest("GET", "http://registry.example:5000/v2/", nil)
	if got := auth.Address(r); got != "http://registry.example:5000" {
		t.Error(got)
	}
	r.Header.Set("X-Forwarded-Proto", "HTTPS")
	if got := auth.Address(r); got != "https://registry.example:5000" {
		t.Error(got)
	}
	r = httptest.NewRequest("GET", "https://registry.example/v2/", nil)
	if got := auth.Address(r); got != "https://registry.example" {
		t.Error(got)
	}
}

func TestWrongAPIKeysCountAsFailedLogins(t *testing.T) {
	f := newFixture(t)
	key, err := auth.GenerateAPIKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := auth.GenerateAPIKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.directory.keys = map[string]string{key: "puller"}
	request := func(header string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		return r
	}
	for _, good := range []string{"Bearer " + key, "bearer " + key, basic("puller", key)} {
		if p, err := f.Authenticate(request(good)); err != nil || p.Name != "puller" {
			t.Errorf("%.10s: %+v, %v", good, p, err)
		}
		if g, err := f.Authorize(request(good)); err != nil || g.Name() != "puller" {
			t.Errorf("%.10s: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"another key": "Bearer " + wrong, "no key": "Bearer x", "another name": basic("admin", key),
	} {
		if p, err := f.Authenticate(request(bad)); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	var challenge *auth.ChallengeError
	for range 20 {
		if _, err := f.Authenticate(request("Bearer " + wrong)); errors.As(err, &challenge) {
			break
		}
	}
	if challenge == nil || challenge.RetryAfter == 0 {
		t.Error("wrong keys are not limited")
	}
	if _, err := f.Authenticate(request("Bearer " + key)); err != nil {
		t.Errorf("the right key is limited by others: %v", err)
	}
}
