package connected

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/wire"
)

func TestMisconfiguredLinkIsLoggedOnceWithAHint(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	trusting := secure.Client().Transport // whose certificate is for example.com, and for 127.0.0.1
	for _, test := range []struct {
		name, url string
		transport http.RoundTripper
		hint      string
	}{
		{"an authority that nobody knows", secure.URL, nil, "SSL_CERT_FILE=ca.pem"},
		{"another name", strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trusting, "ParentGatewayEndpoint"},
		{"TLS to a parent without", strings.Replace(plain.URL, "http:", "https:", 1), nil, "--parent-protocol http\""},
		{"no TLS to a parent with it", strings.Replace(secure.URL, "https:", "http:", 1), nil,
			"--parent-protocol https\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			protocol, endpoint, _ := strings.Cut(test.url, "://")
			c := gateway.NewClient(wire.ConnectionString{Name: "ship1", Token: "ship1", Password: "secret",
				Endpoint: endpoint, Protocol: protocol}, test.transport)
			_, err := c.Activate(t.Context(), wire.ActivateRequest{})
			if err == nil {
				t.Fatal("it works")
			}
			var text bytes.Buffer
			l := parentLink{log: slog.New(slog.NewTextHandler(&text, nil)), now: time.Now}
			l.pauseAfterFailure(parentError{err})
			if !strings.Contains(text.String(), " hint=") || !strings.Contains(text.String(), test.hint) ||
				strings.Contains(text.String(), "secret") {
				t.Error(text.String())
			}
			text.Reset()
			l.pauseAfterFailure(parentError{err})
			if text.Len() > 0 {
				t.Errorf("it is said again: %s", &text)
			}
		})
	}
}
