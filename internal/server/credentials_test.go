package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/server"
)

// joinString makes the connected registry ship1 in a root, and returns its connection string, with a join token.
func joinString(t *testing.T, root server.Ready) string {
	t.Helper()
	var v map[string]any
	for _, request := range []struct{ method, path, body string }{
		{"PUT", "", `{"repositories":["app"]}`}, {"POST", "/settings", `{"parentProtocol":"http","joinFor":"PT1H"}`},
	} {
		url := root.URL + "/api/v1/connected-registries/ship1" + request.path
		r, err := http.NewRequest(request.method, url, strings.NewReader(request.body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("admin", passwordOf(t, root))
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s: %d %v", request.path, resp.StatusCode, err)
		}
	}
	return v["ACR_REGISTRY_CONNECTION_STRING"].(string)
}

// A logins is a publisher of logins.
type logins chan [2]string

func (l logins) PublishLogin(_ context.Context, user, password string, _ []*url.URL) error {
	l <- [2]string{user, password}
	return nil
}

func TestPublishedLoginIsValidAtTheParent(t *testing.T) {
	root, _ := run(t, configIn(t.TempDir()))
	cfg := configIn(t.TempDir())
	cfg.ConnectionString = joinString(t, root)
	published := make(logins, 1)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, cfg, server.Options{LoginPublisher: published}) }()
	select {
	case login := <-published:
		if status, _ := get(t, root.URL+"/v2/", login[0], login[1]); status != http.StatusOK {
			t.Errorf("the parent answers %d to the login of %s", status, login[0])
		}
	case err := <-done:
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	err := server.Run(t.Context(), configIn(t.TempDir()), server.Options{LoginPublisher: published})
	if err == nil || !strings.Contains(err.Error(), "a root has none") {
		t.Errorf("a root: %v", err)
	}
}

func TestConnectionStringIsNeededOnce(t *testing.T) {
	root, _ := run(t, configIn(t.TempDir()))
	cfg := configIn(t.TempDir())
	cfg.ConnectionStringFile = filepath.Join(t.TempDir(), "connection-string")
	if err := os.WriteFile(cfg.ConnectionStringFile, []byte(joinString(t, root)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("first", func(t *testing.T) {
		runReloadable(t, cfg).log.line(t, "connected registry is activated")
	})
	if err := os.Remove(cfg.ConnectionStringFile); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{cfg.ConnectionStringFile, ""} {
		cfg.ConnectionStringFile = file
		_, stop := run(t, cfg)
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	cfg.ConnectionStringFile = ""
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "parent-login"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := server.Run(t.Context(), cfg, server.Options{})
	if err == nil || !strings.Contains(err.Error(), "read the stored connection string") {
		t.Errorf("with damaged credentials: %v", err)
	}
}
