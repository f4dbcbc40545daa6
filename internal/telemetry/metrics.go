package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the metrics of an instance. They are in a Prometheus registry of their own,
// so that two instances in one process do not mix.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	sent     *prometheus.CounterVec
	running  prometheus.Gauge
}

// NewMetrics returns metrics about the process, the version and the requests.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_http_requests_total", Help: "Requests answered, by API, method and status.",
		}, []string{"api", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ferry_http_request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300},
		}, []string{"api"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_http_sent_bytes_total", Help: "Bytes of answers' bodies.",
		}, []string{"api"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferry_http_requests_running", Help: "Requests being answered now.",
		}),
	}
	version := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ferry_build_info", Help: "Always 1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": Version()},
	})
	version.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.sent, m.running, version,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// A Gauge is a value that can rise and fall.
type Gauge struct {
	Name, Help string
	Value      float64
}

// Gauges adds gauges. Each request for the metrics calls read once.
func (m *Metrics) Gauges(read func() []Gauge) { m.registry.MustRegister(gauges(read)) }

// Counter adds a counter. Each request for the metrics calls read once.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

type gauges func() []Gauge

var _ prometheus.Collector = gauges(nil)

// Describe implements [prometheus.Collector]. The names are not known before a read.
func (read gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (read gauges) Collect(out chan<- prometheus.Metric) {
	for _, g := range read() {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(g.Name, g.Help, nil, nil), prometheus.GaugeValue,
			g.Value)
	}
}

// Started counts a running request. Call ended at its end.
func (m *Metrics) Started() (ended func()) {
	m.running.Inc()
	return m.running.Dec
}

// Answered counts a request that was answered. api must be one of a few fixed words, so that
// clients cannot make the metrics grow. For the same reason, an unusual method counts as
// "other".
func (m *Metrics) Answered(api, method string, status int, sent int64, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(api, method, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(api).Observe(took.Seconds())
	m.sent.WithLabelValues(api).Add(float64(sent))
}

// Handler serves the metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
