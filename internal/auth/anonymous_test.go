package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ferry/internal/auth"
)

// openTo allows clients without credentials in the networks to pull team/*.
func (d *fixture) openTo(t *testing.T, networks ...string) {
	t.Helper()
	parsed, err := auth.ParseNetworks(networks)
	if err != nil {
		t.Fatal(err)
	}
	p, err := auth.ParsePermissions([]string{
		"repositories/team/*/content/read", "repositories/team/*/metadata/read", "repositories/team/*/content/write",
		"repositories/team/*/content/delete", "repositories/team/*/metadata/write", "gateway/ship01/message/read",
	})
	if err != nil {
		t.Fatal(err)
	}
	d.directory.networks, d.directory.anonymous = parsed, p.ToPull()
}

// anonymousToken requests a token without credentials.
func (d *fixture) anonymousToken(t *testing.T, scope string) string {
	t.Helper()
	resp, body := d.get(t, "/oauth2/token?service=x&scope="+scope, "")
	_, after, ok := strings.Cut(body, `"token":"`)
	token, _, _ := strings.Cut(after, `"`)
	if resp.StatusCode != 200 || !ok {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return token
}

func TestAnonymousClientsOnlyPull(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "127.0.0.0/8", "::1")
	all := d.anonymousToken(t, "repository:team/app:*")
	for _, test := range []struct {
		need   string
		status int
	}{
		{"team/app|content/read", 200}, {"team/app|metadata/read", 200}, {"team/app|content/write", 401},
		{"team/app|content/delete", 401}, {"team/app|metadata/write", 401}, {"a|content/read", 401},
		{"teams/app|content/read", 401}, {"ship01|message/read", 401}, {"team/app|message/read", 401},
	} {
		for name, header := range map[string]string{"without a token": "", "with a token": "Bearer " + all} {
			resp, body := d.get(t, "/v2/?need="+test.need, header)
			if resp.StatusCode != test.status {
				t.Errorf("%s %s: %d %s, want %d", test.need, name, resp.StatusCode, body, test.status)
			}
			if challenge := resp.Header.Get("WWW-Authenticate"); test.status == 401 &&
				!strings.HasPrefix(challenge, "Bearer realm=") {
				t.Errorf("%s %s: challenge %q", test.need, name, challenge)
			}
		}
	}
	if n := d.AnonymousRequests(); n != 4 {
		t.Errorf("counted %d requests, want 4", n)
	}
}

// Docker and Podman find out from GET /v2/ that there is a login, and check a password with it.
func TestGreetingNeedsALoginOrAToken(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "127.0.0.0/8")
	resp, _ := d.get(t, "/v2/", "")
	if want := `Bearer realm="` + d.url + `/oauth2/token",service="` + d.host + `"`; resp.StatusCode != 401 ||
		resp.Header.Get("WWW-Authenticate") != want {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp, body := d.get(t, "/v2/", "Bearer "+d.anonymousToken(t, "")); resp.StatusCode != 200 {
		t.Errorf("with a token: %d %s", resp.StatusCode, body)
	}
}

func TestWrongCredentialsAreNeverAnonymous(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "127.0.0.0/8")
	paths := []string{"/v2/", "/v2/?need=team/app|content/read", "/oauth2/token?scope=repository:team/app:pull"}
	for _, header := range []string{
		basic("puller", "wrong"), basic("nobody", "secret"), basic("", ""), basic("puller", ""), "Bearer x.y.z",
		"Bearer ", "Basic", "Basic !", "Negotiate x", " ",
	} {
		for _, path := range paths {
			req, err := http.NewRequest("GET", d.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Authorization"] = []string{header}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 401 {
				t.Errorf("%s with %q: %s", path, header, resp.Status)
			}
		}
	}
	for _, form := range []string{"", "grant_type=password", "grant_type=password&username=puller&password=wrong"} {
		resp, err := http.Post(d.url+"/oauth2/token", "application/x-www-form-urlencoded", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("form %q: %s", form, resp.Status)
		}
	}
}

func TestAnonymousTokenHasTheRightsOfItsSender(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "127.0.0.1", "10.0.0.0/8", "2001:db8::/32")
	token := "Bearer " + d.anonymousToken(t, "repository:team/app:pull+repository:team/tool:pull")
	from := func(address, header, repository string) error {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.RemoteAddr = address
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		_, err := d.Authorize(r, auth.Access{Repository: repository, Action: auth.ContentRead})
		return err
	}
	for _, test := range []struct {
		address string
		allowed bool
	}{
		{"10.1.2.3:1", true}, {"[::ffff:10.1.2.3]:1", true}, {"[2001:db8::7%eth0]:1", true}, {"11.0.0.1:1", false},
		{"192.0.2.7:1", false}, {"[::1]:1", false}, {"", false}, {"@", false}, {"10.1.2.3.4:1", false},
	} {
		for _, header := range []string{"", token} {
			if err := from(test.address, header, "team/app"); (err == nil) != test.allowed {
				t.Errorf("from %q with %.10q: %v", test.address, header, err)
			}
		}
	}
	narrowed, err := auth.ParsePermissions([]string{"repositories/team/tool/content/read"})
	if err != nil {
		t.Fatal(err)
	}
	d.directory.anonymous = narrowed
	if from("10.1.2.3:1", token, "team/app") == nil || from("10.1.2.3:1", token, "team/tool") != nil {
		t.Error("the token does not follow a change of the scope map")
	}
	d.directory.networks = nil
	if from("10.1.2.3:1", token, "team/tool") == nil {
		t.Error("the token does not end with the network")
	}
}

func TestAnonymousClientsNeedAnOpenNetwork(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "192.0.2.0/24")
	if resp, _ := d.get(t, "/oauth2/token?scope=repository:team/app:pull", ""); resp.StatusCode != 401 ||
		!strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("token: %d %v", resp.StatusCode, resp.Header)
	}
	if resp, _ := d.get(t, "/v2/?need=team/app|content/read", ""); resp.StatusCode != 401 {
		t.Errorf("pull: %d", resp.StatusCode)
	}
	closed := auth.NewAuthenticator(auth.AuthenticatorOptions{Directory: d.directory})
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = "192.0.2.7:1"
	if _, err := closed.Authorize(r, auth.Access{Repository: "team/app", Action: auth.ContentRead}); err == nil {
		t.Error("a registry without anonymous pulls allows one")
	}
	w := httptest.NewRecorder()
	if closed.TokenHandler(nil).ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("token: %d", w.Code)
	}
}

func TestAnonymousRequestsAreNoFailedLogins(t *testing.T) {
	d := newFixture(t)
	d.openTo(t, "192.0.2.0/24")
	for range 200 {
		if resp, _ := d.get(t, "/oauth2/token", ""); resp.StatusCode != 401 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if resp, body := d.get(t, "/v2/?need=team/app|content/read", basic("puller", "secret")); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
