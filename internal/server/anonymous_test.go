package server_test

import (
	"net/http"
	"strings"
	"testing"

	"ferry/internal/config"
)

// openScopeMap allows clients on this machine to pull open/* without credentials.
const openScopeMap = `{"actions":["repositories/open/*/content/read"],"anonymousNetworks":["127.0.0.0/8"]}`

// ask sends a request as admin, if there is a password, and returns the status.
func ask(t *testing.T, method, url, password, body string, header ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("admin", password)
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAnonymousPullsAreOffUnlessAllowed(t *testing.T) {
	for _, setting := range []string{config.AnonymousByScopeMap, config.AnonymousOff} {
		cfg := configIn(t.TempDir())
		cfg.Anonymous = setting
		r, _ := run(t, cfg)
		password := passwordOf(t, r)
		path := r.URL + "/v2/open/app/manifests/v1"
		if got := ask(t, "GET", path, "", ""); got != 401 {
			t.Errorf("%s, before a scope map allows it: %d", setting, got)
		}
		if got := ask(t, "PUT", r.URL+"/api/v1/scope-maps/m", password, openScopeMap); got >= 300 {
			t.Fatal(got)
		}
		want := map[string]int{config.AnonymousByScopeMap: 404, config.AnonymousOff: 401}[setting]
		if got := ask(t, "GET", path, "", ""); got != want {
			t.Errorf("%s: %d, want %d", setting, got, want)
		}
		if got := ask(t, "GET", r.URL+"/api/v1/scope-maps", "", ""); got != 401 {
			t.Errorf("%s: the management API: %d", setting, got)
		}
		if got := ask(t, "GET", r.URL+"/metrics", "", ""); got != 401 {
			t.Errorf("%s: metrics: %d", setting, got)
		}
		_, metrics := get(t, r.URL+"/metrics", "admin", password)
		counted := strings.Contains(metrics, "\nferry_anonymous_requests_total 1\n")
		if counted != (setting == config.AnonymousByScopeMap) {
			t.Errorf("%s: counted: %t", setting, counted)
		}
	}
}

// A client behind a trusted proxy has the address that the proxy names. The proxy itself has no
// rights, because a client can make it name two senders that differ.
func TestTrustedProxyIsNoAnonymousClient(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.TrustedProxies = "127.0.0.1"
	r, _ := run(t, cfg)
	password := passwordOf(t, r)
	body := strings.Replace(openScopeMap, "127.0.0.0/8", `127.0.0.0/8","10.0.0.0/8`, 1)
	if got := ask(t, "PUT", r.URL+"/api/v1/scope-maps/m", password, body); got >= 300 {
		t.Fatal(got)
	}
	for _, c := range []struct {
		header string
		want   int
	}{
		{"X-Forwarded-For: 10.1.2.3", 404}, {"X-Forwarded-For: 10.1.2.3, 192.0.2.7", 401},
		{"X-Forwarded-For: 192.0.2.7", 401}, {"X-Forwarded-For: nonsense", 401}, {"X: y", 401},
		{"X-Forwarded-For: 127.0.0.1", 401}, {"Forwarded: for=10.1.2.3", 404},
	} {
		if got := ask(t, "GET", r.URL+"/v2/open/app/manifests/v1", "", "", c.header); got != c.want {
			t.Errorf("%s: %d, want %d", c.header, got, c.want)
		}
	}
	got := ask(t, "GET", r.URL+"/v2/open/app/manifests/v1", "", "", "X-Forwarded-For: 192.0.2.7",
		"Forwarded: for=10.1.2.3")
	if got != 401 {
		t.Errorf("two senders that differ: %d", got)
	}
}
