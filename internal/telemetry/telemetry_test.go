package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
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
	m.Gauges(func() []Gauge {
		return []Gauge{{Name: "ferry_test", Help: "A test.", Value: 42},
			{Name: "ferry_other", Help: "Another.", Value: 7}}
	})
	ended := m.Started()
	m.Answered("registry", "GET", 200, 17, time.Second)
	m.Answered("registry", "BREW", 405, 0, time.Second)
	m.Answered("registry", "WHEN", 405, 0, time.Second)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	ended()
	for _, want := range []string{
		`ferry_http_requests_total{api="registry",method="GET",status="200"} 1`,
		`ferry_http_requests_total{api="registry",method="other",status="405"} 2`,
		`ferry_http_sent_bytes_total{api="registry"} 17`,
		"ferry_http_requests_running 1", "ferry_test 42", "ferry_other 7", "ferry_build_info{version=",
		"process_resident_memory_bytes",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
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
