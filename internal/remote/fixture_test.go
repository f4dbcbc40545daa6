package remote_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/config"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/remote"
	"ferry/internal/server"
)

// serve runs an instance and returns its address and its administrator's password.
func serve(t *testing.T) (address, password string) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	if err := fleettest.PrepareRoot(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan server.Ready, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- server.Run(ctx, cfg, server.Options{Ready: func(r server.Ready) { ready <- r }}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case r := <-ready:
		text, err := os.ReadFile(filepath.Join(cfg.DataDir, "initial-admin-password"))
		if err != nil {
			t.Fatal(err)
		}
		return r.URL, strings.TrimSpace(string(text))
	case err := <-done:
		done <- nil
		t.Fatal(err)
		return "", ""
	}
}

// answering returns a client of a registry that gives every request the same answer.
func answering(t *testing.T, status int, header http.Header, body string) *remote.Registry {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return client(t, s.URL, remote.Options{})
}

func client(t *testing.T, address string, o remote.Options) *remote.Registry {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o.Transport = transport
	r, err := remote.New(address, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
