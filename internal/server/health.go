package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"ferry/internal/auth"
	"ferry/internal/config"
	"ferry/internal/telemetry"
)

// readyTimeout is how long the database of a ready instance may take to answer.
const readyTimeout = 2 * time.Second

var errDraining = errors.New("the instance is stopping")

// live answers that the process serves requests.
func live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") // fails only if the client disconnected
}

// A readiness reports whether a load balancer should send requests to the instance: not
// while its database does not answer, and not while it drains.
type readiness struct {
	draining atomic.Bool
	check    func(context.Context) error
}

func (rd *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	err := errDraining
	if !rd.draining.Load() {
		err = rd.check(ctx)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		// The error is not sent, because it may name the database's host.
		_, _ = io.WriteString(w, "not ready\n")
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// protectedMetrics serves metrics to operators, and to others if the setting that readers returns allows it.
// Strangers get only those that name no connected registry and no mirror rule.
func protectedMetrics(m *telemetry.Metrics, readers func() string,
	basic func(*http.Request) (*auth.Principal, error)) http.Handler {
	all, nameless := m.Handler(), m.NamelessHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := readers()
		if allowed == config.MetricsLoopback && fromThisMachine(r) {
			all.ServeHTTP(w, r)
			return
		}
		switch p, err := basic(r); {
		case err == nil && p.Kind == auth.KindOperator && !p.Limits.Any():
			all.ServeHTTP(w, r)
		case allowed == config.MetricsAnyone:
			nameless.ServeHTTP(w, r)
		case err == nil:
			writeError(w, http.StatusForbidden, "DENIED", "metrics are for operators without limits")
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="ferry"`)
			writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "metrics are for operators")
		}
	})
}

// fromThisMachine reports whether a request came over loopback, and not through a proxy.
func fromThisMachine(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}
