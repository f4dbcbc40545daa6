package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/terminal"
)

func TestLogTimesAreInUTC(t *testing.T) {
	var out bytes.Buffer
	NewLogger(&out, slog.LevelInfo, "json").Info("said", "repo", "a/b")
	var line struct {
		Time time.Time
		Msg  string
		Repo string
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "said" || line.Repo != "a/b" ||
		!strings.Contains(out.String(), `Z"`) {
		t.Errorf("%s: %v", out.String(), err)
	}
	out.Reset()
	log := NewLogger(&out, slog.LevelWarn, "text")
	log.Info("not said")
	log.Warn("said")
	if got := out.String(); !strings.Contains(got, "level=WARN msg=said") || strings.Contains(got, "not") {
		t.Error(got)
	}
}

func TestClientsCannotMakeTheMetricsGrow(t *testing.T) {
	m := NewMetrics()
	test, other := NewGauge("ferry_test", "A test."), NewCounter("ferry_other_total", "Another.", "kind")
	m.Collect(func() []Sample { return []Sample{test.Is(42), other.Is(7, "a"), other.Is(8, "b"), other.Is(9, "\xff")} })
	ended := m.Started()
	m.Answered(Request{API: "registry", Method: "GET", Status: 200, Sent: 17, Received: 3, Took: time.Second})
	m.Answered(Request{API: "registry", Method: "BREW", Status: 405, Took: time.Second})
	m.Answered(Request{API: "registry", Method: "WHEN", Status: 405, Took: time.Second})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	ended()
	for _, want := range []string{
		`ferry_http_requests_total{api="registry",method="GET",status="200"} 1`,
		`ferry_http_requests_total{api="registry",method="other",status="405"} 2`,
		`ferry_http_sent_bytes_total{api="registry"} 17`,
		`ferry_http_received_bytes_total{api="registry"} 3`, `ferry_other_total{kind="a"} 7`,
		`ferry_other_total{kind="b"} 8`, "ferry_http_requests_running 1", "ferry_test 42", "ferry_build_info{commit=",
		"process_resident_memory_bytes",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestNamesAreApartFromOtherMetrics(t *testing.T) {
	m := NewMetrics()
	named := NewGauge("ferry_site", "A site.", "name")
	m.CollectNamed(func() []Sample { return []Sample{named.Is(1, "ship1")} })
	for _, test := range []struct {
		handler http.Handler
		want    bool
	}{{m.Handler(), true}, {m.NamelessHandler(), false}} {
		w := httptest.NewRecorder()
		test.handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if body := w.Body.String(); strings.Contains(body, "ship1") != test.want ||
			!strings.Contains(body, "ferry_build_info") {
			t.Errorf("want names: %t, got:\n%s", test.want, body)
		}
	}
}

func TestTrafficIsCounted(t *testing.T) {
	a, b := net.Pipe()
	var traffic Traffic
	dial := func(context.Context, string, string) (net.Conn, error) { return a, nil }
	c, err := traffic.Dial(dial)(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	go func() { io.CopyN(b, b, 4); b.Close() }()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "ping" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if traffic.Sent() != 4 || traffic.Received() != 4 {
		t.Errorf("sent %d, received %d", traffic.Sent(), traffic.Received())
	}
}

func TestLogsCannotControlTheTerminal(t *testing.T) {
	const hostile = "a\x1b[2J\u009b2J\u202eb\nc"
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		NewLogger(&out, slog.LevelInfo, format).Info("said", "repo", hostile)
		if line := strings.TrimSuffix(out.String(), "\n"); strings.ContainsFunc(line, terminal.IsControl) {
			t.Errorf("%s: %q", format, line)
		}
	}
}
