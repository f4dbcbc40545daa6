package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/config"
	"ferry/internal/telemetry"
)

func TestMetricsNeedAnOperatorByDefault(t *testing.T) {
	basic := func(r *http.Request) (*auth.Principal, error) {
		user, _, _ := r.BasicAuth()
		switch user {
		case "reader":
			return &auth.Principal{Kind: auth.KindOperator}, nil
		case "token":
			return &auth.Principal{Kind: auth.KindToken}, nil
		}
		return nil, auth.ErrUnauthenticated
	}
	for _, test := range []struct {
		name, remote, user string
		header             string
		to                 string // the strictest setting that allows it
	}{
		{"this machine", "127.0.0.1:1234", "", "", config.MetricsLoopback},
		{"this machine, IPv6", "[::1]:1234", "", "", config.MetricsLoopback},
		{"this machine, mapped", "[::ffff:127.0.0.1]:1234", "", "", config.MetricsLoopback},
		{"another machine", "192.0.2.1:1234", "", "", config.MetricsAnyone},
		{"another machine through a proxy here", "127.0.0.1:1234", "", "X-Forwarded-For", config.MetricsAnyone},
		{"an operator elsewhere", "192.0.2.1:1234", "reader", "", config.MetricsOperators},
		{"an operator through a proxy", "127.0.0.1:1234", "reader", "Via", config.MetricsOperators},
		{"a token", "192.0.2.1:1234", "token", "", config.MetricsAnyone},
		{"no address", "", "", "", config.MetricsAnyone},
	} {
		settings := []string{config.MetricsOperators, config.MetricsLoopback, config.MetricsAnyone}
		for n, setting := range settings {
			want := 401
			if test.user == "token" {
				want = 403
			}
			if n >= slices.Index(settings, test.to) {
				want = 200
			}
			t.Run(setting+"/"+test.name, func(t *testing.T) {
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.RemoteAddr = test.remote
				if test.user != "" {
					r.SetBasicAuth(test.user, "x")
				}
				if test.header != "" {
					r.Header.Set(test.header, "192.0.2.1")
				}
				w := httptest.NewRecorder()
				protectedMetrics(telemetry.NewMetrics(), func() string { return setting }, basic).ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("%d, want %d", w.Code, want)
				}
			})
		}
	}
}

func TestReadinessFollowsTheDatabaseAndDraining(t *testing.T) {
	var failure error
	rd := &readiness{check: func(context.Context) error { return failure }}
	status := func() int {
		w := httptest.NewRecorder()
		rd.ServeHTTP(w, httptest.NewRequest("GET", "/health/ready", nil))
		return w.Code
	}
	if got := status(); got != 200 {
		t.Errorf("%d", got)
	}
	failure = errors.New("gone")
	if got := status(); got != 503 {
		t.Errorf("without a database: %d", got)
	}
	failure = nil
	rd.draining.Store(true)
	if got := status(); got != 503 {
		t.Errorf("while it drains: %d", got)
	}
}
