package telemetry

import (
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ObjectStore adds metrics of the requests to an object store, retries included, and returns the
// transport that counts those of next. operation returns one of a few words for each request.
func (m *Metrics) ObjectStore(operation func(*http.Request) string, next http.RoundTripper) http.RoundTripper {
	s := &storeTransport{
		operation: operation, next: next,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_object_store_requests_total", Help: "Requests to the object store, by operation and outcome.",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ferry_object_store_request_duration_seconds",
			Help:    "Time from the start of a request to the object store to the header of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60},
		}, []string{"operation"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ferry_object_store_sent_bytes_total", Help: "Bytes of the bodies of requests to the object store.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ferry_object_store_received_bytes_total", Help: "Bytes of the bodies of its answers.",
		}),
	}
	m.nameless.MustRegister(s.requests, s.seconds, s.sent, s.received)
	return s
}

// A storeTransport counts requests to an object store.
type storeTransport struct {
	operation      func(*http.Request) string
	next           http.RoundTripper
	requests       *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
	sent, received prometheus.Counter
}

// RoundTrip implements [http.RoundTripper].
func (s *storeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	operation, begun := s.operation(r), time.Now()
	resp, err := s.next.RoundTrip(r)
	s.seconds.WithLabelValues(operation).Observe(time.Since(begun).Seconds())
	s.requests.WithLabelValues(operation, outcome(resp, err)).Inc()
	if err != nil {
		return resp, err
	}
	s.sent.Add(float64(max(r.ContentLength, 0)))
	resp.Body = &receivedBody{resp.Body, s.received}
	return resp, nil
}

// outcome is the outcome of a request.
func outcome(resp *http.Response, err error) string {
	switch {
	case err != nil:
		return "unanswered"
	case resp.StatusCode < 400:
		return "done"
	case resp.StatusCode == http.StatusNotFound:
		return "missing"
	case resp.StatusCode == http.StatusPreconditionFailed, resp.StatusCode == http.StatusConflict:
		return "condition"
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return "unavailable"
	}
	return "refused"
}

// A receivedBody counts the bytes of an answer.
type receivedBody struct {
	io.ReadCloser
	received prometheus.Counter
}

// Read implements [io.Reader].
func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.received.Add(float64(n))
	return n, err
}
