package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/telemetry"
)

func TestMetricsAreForThisMachineAndOperators(t *testing.T) {
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
	h := protectedMetrics(telemetry.NewMetrics(), basic)
	for _, test := range []struct {
		name, remote, user string
		header             string
		want               int
	}{
		{"this machine", "127.0.0.1:1234", "", "", 200},
		{"this machine, IPv6", "[::1]:1234", "", "", 200},
		{"this machine, mapped", "[::ffff:127.0.0.1]:1234", "", "", 200},
		{"another machine", "192.0.2.1:1234", "", "", 401},
		{"another machine through a proxy here", "127.0.0.1:1234", "", "X-Forwarded-For", 401},
		{"an operator elsewhere", "192.0.2.1:1234", "reader", "", 200},
		{"an operator through a proxy", "127.0.0.1:1234", "reader", "Via", 200},
		{"a token", "192.0.2.1:1234", "token", "", 401},
		{"no address", "", "", "", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.RemoteAddr = test.remote
			if test.user != "" {
				r.SetBasicAuth(test.user, "x")
			}
			if test.header != "" {
				r.Header.Set(test.header, "192.0.2.1")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%d, want %d", w.Code, test.want)
			}
		})
	}
}

func TestAnInstanceIsReadyWhileItsDatabaseAnswersAndUntilItDrains(t *testing.T) {
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
