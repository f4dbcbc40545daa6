package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/server"
)

func TestConnectionStringIsNeededOnce(t *testing.T) {
	root, _ := run(t, configIn(t.TempDir()))
	ask := func(method, path, body string, v any) {
		t.Helper()
		url := root.URL + "/api/v1/connected-registries/ship1" + path
		r, err := http.NewRequest(method, url, bytes.NewBufferString(body))
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
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
		}
	}
	var v map[string]any
	ask("PUT", "", `{"repositories":["app"]}`, &v)
	ask("POST", "/settings", `{"parentProtocol":"http","joinFor":"PT1H"}`, &v)
	cfg := configIn(t.TempDir())
	cfg.ConnectionStringFile = filepath.Join(t.TempDir(), "connection-string")
	text := v["ACR_REGISTRY_CONNECTION_STRING"].(string)
	if err := os.WriteFile(cfg.ConnectionStringFile, []byte(text), 0o600); err != nil {
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
