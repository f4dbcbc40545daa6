package server

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/telemetry"
)

// requestIDHeader carries a request's id, which is in the log and in the
// answer. A caller may choose it.
const requestIDHeader = "X-Request-Id"

// middleware surrounds every handler: it gives a request its id, counts and
// logs it, and turns a panic into a 500 that leaves the server up.
type middleware struct {
	find       func(path string) (api string, h http.Handler) // api is one of a few words
	log        *slog.Logger
	metrics    *telemetry.Metrics
	now        func() time.Time
	stall      time.Duration // how long a reader may take nothing
	proxies    proxies       // whose word for a sender is believed
	quota      *quota        // of requests, of which one connection of HTTP/2 has many; nil is none
	complaints *rate.Limiter
	prefix     string // of the ids made here, so that two runs' ids differ
	count      atomic.Int64
}

func newMiddleware(
	find func(path string) (api string, h http.Handler), log *slog.Logger, metrics *telemetry.Metrics,
) *middleware {
	return &middleware{
		find: find, log: log, metrics: metrics, now: time.Now, stall: writeStall, prefix: rand.Text()[:8] + "-",
		complaints: newComplaints(),
	}
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := m.now()
	id := r.Header.Get(requestIDHeader)
	if !isRequestID(id) {
		id = m.prefix + strconv.FormatInt(m.count.Add(1), 10)
		r.Header.Set(requestIDHeader, id) // handlers log it, too
	}
	w.Header().Set(requestIDHeader, id)
	r.RemoteAddr = m.proxies.sender(r)
	bounded(w, r)
	rec := &recorder{ResponseWriter: w, stall: m.stall}
	ended := m.metrics.Started()
	api, next := m.find(r.URL.Path)
	defer func() {
		rec.done()
		ended()
		if v := recover(); v != nil {
			m.recovered(rec, r, id, v)
		}
		took := m.now().Sub(start)
		if rec.status == 0 {
			rec.status = http.StatusOK // what net/http sends for a handler that wrote nothing
		}
		m.metrics.Answered(api, r.Method, rec.status, rec.sent, took)
		if m.log.Enabled(r.Context(), slog.LevelDebug) {
			m.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
				slog.String("id", id), slog.String("source", r.RemoteAddr), slog.String("method", r.Method),
				slog.String("path", r.URL.Path), slog.Int("status", rec.status), slog.Int64("bytes", rec.sent),
				slog.Duration("took", took))
		}
	}()
	if m.quota != nil {
		from := sourceOf(r.RemoteAddr)
		if refusal := m.quota.take(from); refusal != "" {
			m.refuse(rec, from, refusal)
			return
		}
		defer m.quota.give(from)
	}
	next.ServeHTTP(rec, r)
}

// refuse answers a request that is one too many.
func (m *middleware) refuse(w http.ResponseWriter, from netip.Addr, refusal string) {
	if m.complaints.Allow() {
		m.log.Error("request is refused", "source", from, "err", refusal, "most", m.quota.most, "hint", hintQuota)
	}
	w.Header().Set("Retry-After", "10")
	writeError(w, http.StatusServiceUnavailable, "TOOMANYREQUESTS", "there are too many requests at the same time")
}

// recovered ends a request whose handler panicked. ErrAbortHandler is how a
// handler drops a connection, and is passed on.
func (m *middleware) recovered(rec *recorder, r *http.Request, id string, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	m.log.Error("request panicked", "id", id, "method", r.Method, "path", r.URL.Path,
		"err", fmt.Sprint(v), "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is sent; only a cut shows that to the client
	}
	writeError(rec, http.StatusInternalServerError, "UNKNOWN", "internal error; the log has more under request id "+id)
}

// isRequestID accepts ids that are safe in a log and in a header.
func isRequestID(s string) bool {
	const safe = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."
	return s != "" && len(s) <= 64 && strings.Trim(s, safe) == ""
}

// writeError answers in the distribution specification's form, for requests
// that belong to no API with a form of its own.
func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"errors\":[{\"code\":%q,\"message\":%q}]}\n", code, message)
}
