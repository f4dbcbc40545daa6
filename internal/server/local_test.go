package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/config"
)

func TestOwnerOfTheDataDirectoryNeedsNoLogin(t *testing.T) {
	dir, err := os.MkdirTemp("", "ferry") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := config.LocalSocket(dir)
	if err := os.WriteFile(socket, nil, 0o666); err != nil { // as after a kill
		t.Fatal(err)
	}
	cfg := configIn(dir)
	cfg.ConnectionString = noParent
	_, stop := run(t, cfg)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for path, want := range map[string]string{
		"/api/v1/sync": `"status":"Unknown"`, "/api/v1/status": `"role":"connected"`,
		"/api/v1/sync/items?n=10": `"value":[]`,
	} {
		if code, body := ask("GET", path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, call := range [][2]string{
		{"POST", "/api/v1/sync/pause"}, {"GET", "/api/v1/tokens"}, {"GET", "/api/v1/sync/../tokens"}, {"GET", "/v2/"},
		{"GET", "/metrics"}, {"DELETE", "/api/v1/sync"}, {"GET", "/api/v1/openapi.json"}, {"GET", "/"},
	} {
		if code, body := ask(call[0], call[1]); code != 403 {
			t.Errorf("%v: %d %s", call, code, body)
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestInstanceServesWithoutALocalSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 50))
	r, _ := run(t, configIn(dir))
	if code, body := get(t, r.URL+"/health", "", ""); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}
