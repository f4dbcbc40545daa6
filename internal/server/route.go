package server

import (
	"net/http"
	"strings"
)

// routes are an instance's APIs, each at its paths. There is no ServeMux in
// between: it would redirect paths that the registry API has its own answer to.
type routes struct {
	registry http.Handler // /v2/ and /acr/v1/
	token    http.Handler // /oauth2/token and /acr/oauth2/token
	gateway  http.Handler // /gateway/v1/
	api      http.Handler // /api/v1/
	live     http.Handler // /health
	ready    http.Handler // /health/ready
	sync     http.Handler // /health/sync
	metrics  http.Handler // /metrics
}

// The APIs, as the metrics name them.
const (
	apiRegistry   = "registry"
	apiAttributes = "attributes"
	apiToken      = "token"
	apiGateway    = "gateway"
	apiManagement = "management"
	apiHealth     = "health"
	apiMetrics    = "metrics"
	apiNone       = "none"
)

// apiOf returns which API a path belongs to.
func apiOf(path string) string {
	switch {
	case path == "/v2" || strings.HasPrefix(path, "/v2/"):
		return apiRegistry
	case strings.HasPrefix(path, "/acr/v1/"):
		return apiAttributes
	case path == "/oauth2/token" || path == "/acr/oauth2/token":
		return apiToken
	case strings.HasPrefix(path, "/gateway/"):
		return apiGateway
	case strings.HasPrefix(path, "/api/"):
		return apiManagement
	case path == "/health" || path == "/health/ready" || path == "/health/sync":
		return apiHealth
	case path == "/metrics":
		return apiMetrics
	}
	return apiNone
}

func (rs *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch apiOf(r.URL.Path) {
	case apiRegistry, apiAttributes:
		rs.registry.ServeHTTP(w, r)
	case apiToken:
		rs.token.ServeHTTP(w, r)
	case apiGateway:
		rs.gateway.ServeHTTP(w, r)
	case apiManagement:
		rs.api.ServeHTTP(w, r)
	case apiHealth:
		switch r.URL.Path {
		case "/health":
			rs.live.ServeHTTP(w, r)
		case "/health/sync":
			rs.sync.ServeHTTP(w, r)
		default:
			rs.ready.ServeHTTP(w, r)
		}
	case apiMetrics:
		rs.metrics.ServeHTTP(w, r)
	default:
		writeError(w, http.StatusNotFound, "NOT_FOUND", "there is nothing here; the registry API is at /v2/, the management API at /api/v1/")
	}
}
