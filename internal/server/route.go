package server

import (
	"net/http"
	"strings"

	"ferry/internal/oidc"
)

// routes are the handlers of an instance's APIs. They do not use a ServeMux, because it
// redirects paths that the registry API answers itself.
type routes struct {
	registry http.Handler // /v2/ and /acr/v1/
	token    http.Handler // /oauth2/token and /acr/oauth2/token
	gateway  http.Handler // /gateway/v1/
	api      http.Handler // /api/v1/
	login    http.Handler // /login/oidc, and below it, and /logout
	ca       http.Handler // /ca.crt
	live     http.Handler // /health
	ready    http.Handler // /health/ready
	sync     http.Handler // /health/sync
	metrics  http.Handler // /metrics
}

// find returns the handler of a path, and the API's name in the metrics.
func (rs *routes) find(path string) (api string, h http.Handler) {
	switch {
	case path == "/v2" || strings.HasPrefix(path, "/v2/"):
		return "registry", rs.registry
	case strings.HasPrefix(path, "/acr/v1/"):
		return "attributes", rs.registry
	case path == "/oauth2/token" || path == "/acr/oauth2/token":
		return "token", rs.token
	case strings.HasPrefix(path, "/gateway/"):
		return "gateway", rs.gateway
	case strings.HasPrefix(path, "/api/"):
		return "management", rs.api
	case oidc.IsPath(path):
		return "login", rs.login
	case path == "/ca.crt":
		return "ca", rs.ca
	case path == "/health":
		return "health", rs.live
	case path == "/health/ready":
		return "health", rs.ready
	case path == "/health/sync":
		return "health", rs.sync
	case path == "/metrics":
		return "metrics", rs.metrics
	}
	return "none", http.HandlerFunc(notFound)
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusNotFound, "NOT_FOUND",
		"there is nothing here; the registry API is at /v2/, the management API at /api/v1/")
}
