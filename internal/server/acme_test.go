package server_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"ferry/internal/config"
)

func TestUnreachableACMEServerStopsNothing(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.TLS, cfg.TLSNames = config.TLSACME, "registry.example"
	cfg.ACMEDirectory = "https://127.0.0.1:1/directory"
	r := runReloadable(t, cfg)
	line := r.log.line(t, "there is no certificate for a name")
	if !strings.Contains(line, "name=registry.example") || !strings.Contains(line, "must be reachable") {
		t.Error(line)
	}
	for _, name := range []string{"registry.example", "other.example"} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: name}}}
		if resp, err := client.Get(r.URL + "/health"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: a handshake without a certificate succeeded", name)
		}
	}
}
