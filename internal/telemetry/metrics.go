package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the metrics of an instance. They are in Prometheus registries of their own, so
// that two instances in one process do not mix. Those that name connected registries or mirror
// rules are apart, because not everybody may read them.
type Metrics struct {
	nameless, named *prometheus.Registry

	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	sent     *prometheus.CounterVec
	received *prometheus.CounterVec
	running  prometheus.Gauge
}

// NewMetrics returns metrics about the process, the version and the requests.
func NewMetrics() *Metrics {
	m := &Metrics{
		nameless: prometheus.NewRegistry(), named: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_http_requests_total", Help: "Requests answered, by API, method and status.",
		}, []string{"api", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ferry_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300},
		}, []string{"api"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_http_sent_bytes_total", Help: "Bytes of answers' bodies.",
		}, []string{"api"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferry_http_received_bytes_total", Help: "Bytes of requests' bodies.",
		}, []string{"api"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferry_http_requests_running", Help: "Requests being answered now.",
		}),
	}
	b := ReadBuild()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ferry_build_info", Help: "Always 1; version and commit of the program are labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit},
	})
	build.Set(1)
	m.nameless.MustRegister(m.requests, m.seconds, m.sent, m.received, m.running, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// A Family is a metric: its name, meaning, kind and labels.
type Family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// NewGauge returns a metric whose values can rise and fall.
func NewGauge(name, help string, labels ...string) Family {
	return Family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// NewCounter returns a metric whose values only rise, from 0 at the start of the program.
func NewCounter(name, help string, labels ...string) Family {
	return Family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

// Is returns a value of the metric. labels are the values of its labels, in their order.
func (f Family) Is(value float64, labels ...string) Sample { return Sample{f, value, labels} }

// A Sample is a value of a metric.
type Sample struct {
	family Family
	value  float64
	labels []string
}

// Collect adds metrics without names. Each request for the metrics calls read once.
func (m *Metrics) Collect(read func() []Sample) { m.nameless.MustRegister(samples(read)) }

// CollectNamed adds metrics whose labels name connected registries or mirror rules.
func (m *Metrics) CollectNamed(read func() []Sample) { m.named.MustRegister(samples(read)) }

type samples func() []Sample

var _ prometheus.Collector = samples(nil)

// Describe implements [prometheus.Collector]. The metrics are not known before a read.
func (read samples) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector]. A value whose labels are not valid is left out.
func (read samples) Collect(out chan<- prometheus.Metric) {
	for _, s := range read() {
		if m, err := prometheus.NewConstMetric(s.family.desc, s.family.kind, s.value, s.labels...); err == nil {
			out <- m
		}
	}
}

// Unix is a time as the value of a metric: seconds since 1970; 0 for no time.
func Unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Bool is true or false as the value of a metric.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Started counts a running request. Call ended at its end.
func (m *Metrics) Started() (ended func()) {
	m.running.Inc()
	return m.running.Dec
}

// A Request is a request that was answered.
type Request struct {
	API            string // one of a few fixed words, so that clients cannot make the metrics grow
	Method         string // for the same reason, an unusual one counts as "other"
	Status         int
	Sent, Received int64 // bytes of both bodies
	Took           time.Duration
}

// Answered counts a request.
func (m *Metrics) Answered(r Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		r.Method = "other"
	}
	m.requests.WithLabelValues(r.API, r.Method, strconv.Itoa(r.Status)).Inc()
	m.seconds.WithLabelValues(r.API).Observe(r.Took.Seconds())
	m.sent.WithLabelValues(r.API).Add(float64(r.Sent))
	m.received.WithLabelValues(r.API).Add(float64(r.Received))
}

// maxScrapes is how many requests for the metrics are answered at a time.
const maxScrapes = 4

// Handler serves all metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler { return m.handler(prometheus.Gatherers{m.nameless, m.named}) }

// NamelessHandler serves the metrics that name no connected registry and no mirror rule.
func (m *Metrics) NamelessHandler() http.Handler { return m.handler(m.nameless) }

func (m *Metrics) handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}
