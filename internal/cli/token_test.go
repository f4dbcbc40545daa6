package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
)

func TestScopeMapOfAnotherIsNotReplaced(t *testing.T) {
	root := fleettest.NewRoot(t)
	target, err := url.Parse(root.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	var other sync.Once // another client creates the scope map before the first PUT arrives
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			other.Do(func() { root.PutScopeMap(t, "line1-scope-map", "repositories/other/content/read") })
		}
		proxy.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c, err := newClient(login{URL: srv.URL, User: "admin", Password: root.Password}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ensureScopeMap(t.Context(), "line1-scope-map", "line1", []string{"repositories/app/content/read"})
	var m api.ScopeMap
	root.Call(t, "GET", "/scope-maps/line1-scope-map", nil).OK(t, &m)
	if err == nil || !slices.Equal(m.Actions, []string{"repositories/other/content/read"}) {
		t.Errorf("it has %v; the error is %v", m.Actions, err)
	}
}
