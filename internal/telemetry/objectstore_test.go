package telemetry

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// answering answers with a status and a body.
type answering struct {
	status int
	body   string
}

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	if a.status == 0 {
		return nil, errors.New("the connection ended")
	}
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func TestRequestsToAnObjectStoreAreCounted(t *testing.T) {
	m := NewMetrics()
	next := &answering{}
	s := m.ObjectStore(func(r *http.Request) string { return strings.ToLower(r.Method) }, next)
	for _, *next = range []answering{{200, "content"}, {404, ""}, {412, ""}, {503, ""}, {403, ""}, {}} {
		r := httptest.NewRequest(http.MethodPut, "/bucket/key", strings.NewReader("12345"))
		if resp, err := s.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	}
	w := httptest.NewRecorder()
	m.NamelessHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`requests_total{operation="put",outcome="done"} 1`, `requests_total{operation="put",outcome="missing"} 1`,
		`requests_total{operation="put",outcome="condition"} 1`, `requests_total{operation="put",outcome="refused"} 1`,
		`requests_total{operation="put",outcome="unavailable"} 1`,
		`requests_total{operation="put",outcome="unanswered"} 1`,
		`request_duration_seconds_count{operation="put"} 6`, "sent_bytes_total 25", "received_bytes_total 7",
	} {
		if !strings.Contains(w.Body.String(), "\nferry_object_store_"+want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
}
