package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestEachPathReachesItsAPI(t *testing.T) {
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Api", name) })
	}
	rs := &routes{named("registry"), named("token"), named("gateway"), named("api"), named("login"), named("ca"),
		named("live"), named("ready"), named("sync"), named("metrics")}
	for path, want := range map[string]string{
		"/v2": "registry", "/v2/": "registry", "/v2/a/b/manifests/1": "registry", "/v2//odd//path": "registry",
		"/acr/v1/a/_tags": "registry", "/oauth2/token": "token", "/acr/oauth2/token": "token",
		"/gateway/v1/poll": "gateway", "/ca.crt": "ca", "/api/v1/tokens": "api",
		"/login/oidc": "login", "/login/oidc/callback": "login", "/logout": "login", "/login": "", "/login/oidcx": "",
		"/health": "live", "/health/ready": "ready",
		"/health/sync": "sync", "/metrics": "metrics",
		"/": "", "/v2x": "", "/metrics/x": "", "/oauth2/tokens": "", "/healthy": "",
	} {
		r := httptest.NewRequest("GET", "http://x/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		_, h := rs.find(path)
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Api"); got != want || (want == "") != (w.Code == 404) {
			t.Errorf("%s: %q %d, want %q", path, got, w.Code, want)
		}
	}
}
