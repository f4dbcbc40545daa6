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

// requestIDHeader is the header with a request's id, which is also in the log and in the
// answer. A client may choose the id.
const requestIDHeader = "X-Request-Id"

// middleware wraps every handler. It gives a request its id, counts and logs it, and turns
// a panic into a 500.
type middleware struct {
	find        func(path string) (api string, h http.Handler) // api is one of a few words
	log         *slog.Logger
	metrics     *telemetry.Metrics
	now         func() time.Time
	stall       time.Duration // how long a client may stop reading an answer
	settings    func() *settings
	quota       *quota // of requests, because HTTP/2 has many on one connection; nil is no limit
	refusalLogs *rate.Limiter
	prefix      string // of ids, so that those of two runs differ
	count       atomic.Int64
}

func newMiddleware(
	find func(path string) (api string, h http.Handler), log *slog.Logger, metrics *telemetry.Metrics,
) *middleware {
	return &middleware{
		find: find, log: log, metrics: metrics, now: time.Now, stall: writeStall, prefix: rand.Text()[:8] + "-",
		settings:    func() *settings { return &settings{} },
		refusalLogs: newRefusalLogLimit(),
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
	s := m.settings()
	prefix := s.unproxy(r)
	r.RemoteAddr = s.proxies.sender(r)
	received := bounded(w, r)
	rec := &recorder{ResponseWriter: w, stall: m.stall, prefix: prefix}
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
			rec.status = http.StatusOK // net/http sends it for a handler that wrote nothing
		}
		m.metrics.Answered(telemetry.Request{
			API: api, Method: r.Method, Status: rec.status, Sent: rec.sent, Received: received(), Took: took,
		})
		if m.log.Enabled(r.Context(), slog.LevelDebug) {
			m.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
				slog.String("id", id), slog.String("sender", r.RemoteAddr), slog.String("method", r.Method),
				slog.String("path", r.URL.Path), slog.Int("status", rec.status), slog.Int64("bytes", rec.sent),
				slog.Duration("took", took))
		}
	}()
	if m.quota != nil {
		from := senderOf(r.RemoteAddr)
		if refusal := m.quota.acquire(from); refusal != "" {
			m.refuse(rec, from, refusal)
			return
		}
		defer m.quota.release(from)
	}
	next.ServeHTTP(rec, r)
}

// refuse answers a request that exceeds the quota.
func (m *middleware) refuse(w http.ResponseWriter, from netip.Addr, refusal string) {
	if m.refusalLogs.Allow() {
		m.log.Error("request is refused", "sender", from, "err", refusal, "most", m.quota.most(), "hint", hintQuota)
	}
	w.Header().Set("Retry-After", "10")
	writeError(w, http.StatusServiceUnavailable, "TOOMANYREQUESTS", "there are too many requests at the same time")
}

// recovered ends a request whose handler panicked. It passes on ErrAbortHandler, with which
// a handler closes the connection.
func (m *middleware) recovered(rec *recorder, r *http.Request, id string, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	m.log.Error("request panicked", "id", id, "method", r.Method, "path", r.URL.Path,
		"err", fmt.Sprint(v), "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // after half an answer, only a closed connection shows the error
	}
	writeError(rec, http.StatusInternalServerError, "UNKNOWN", "internal error; the log has more under request id "+id)
}

// isRequestID reports whether s is safe in a log and in a header.
func isRequestID(s string) bool {
	const safe = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."
	return s != "" && len(s) <= 64 && strings.Trim(s, safe) == ""
}

// writeError sends an error in the distribution specification's form, for requests that no
// API handles.
func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"errors\":[{\"code\":%q,\"message\":%q}]}\n", code, message)
}
