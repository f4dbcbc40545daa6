package server_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/internal/config"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/server"
)

// run starts an instance, and returns its address and a function that stops it. It prepares a root's
// new data directory, see [fleettest.PrepareRoot].
func run(t *testing.T, cfg config.Config) (ready server.Ready, stop func() error) {
	t.Helper()
	if cfg.Database == "" && cfg.ConnectionString+cfg.ConnectionStringFile == "" {
		if err := fleettest.PrepareRoot(cfg.DataDir); err != nil {
			t.Fatal(err)
		}
	}
	return runFirst(t, cfg)
}

// runFirst is run in a data directory as it is.
func runFirst(t *testing.T, cfg config.Config) (ready server.Ready, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	at := make(chan server.Ready, 1)
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, cfg, server.Options{Ready: func(r server.Ready) { at <- r }}) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- nil // stopping twice is no error
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case ready = <-at:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return ready, stop
}

// noParent is the connection string of a parent that cannot be reached.
const noParent = "ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=x;" +
	"ParentGatewayEndpoint=127.0.0.1:1;ParentEndpointProtocol=http"

func configIn(dir string) config.Config {
	cfg := config.Default()
	cfg.DataDir, cfg.Listen = dir, "127.0.0.1:0"
	return cfg
}

func get(t *testing.T, url, user, password string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
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

func passwordOf(t *testing.T, r server.Ready) string {
	t.Helper()
	info, err := os.Stat(r.AdminPasswordFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("password file: %v, %v", info, err)
	}
	text, err := os.ReadFile(r.AdminPasswordFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestInstanceServesAllAPIsOnBothDatabases(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { return dbtest.PostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configIn(t.TempDir())
			cfg.Database = database(t)
			r, stop := run(t, cfg)
			password := passwordOf(t, r)
			for path, want := range map[string]int{
				"/v2/": 200, "/v2/_catalog": 200, "/api/v1/tokens": 200, "/api/v1/status": 200,
				"/oauth2/token?service=x":     200,
				"/acr/oauth2/token?service=x": 200, "/health": 200, "/health/ready": 200, "/metrics": 200,
				"/gateway/v1/poll": 404, "/": 404,
			} {
				if got, body := get(t, r.URL+path, "admin", password); got != want {
					t.Errorf("%s: %d %s", path, got, body)
				}
			}
			for _, path := range []string{"/v2/", "/api/v1/tokens"} {
				if got, _ := get(t, r.URL+path, "admin", "wrong"); got != 401 {
					t.Errorf("%s with a wrong password: %d", path, got)
				}
			}
			if _, body := get(t, r.URL+"/metrics", "admin", password); !strings.Contains(body,
				`ferry_http_requests_total{api="management",method="GET",status="401"} 1`) {
				t.Errorf("metrics: %s", body)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			// The second start must not make another password.
			again, _ := run(t, cfg)
			if passwordOf(t, again) != password {
				t.Error("the password changed with a restart")
			}
		})
	}
}

func TestAdminPasswordIsPrintedOnce(t *testing.T) {
	cfg := configIn(t.TempDir())
	for start := range 2 {
		var notices strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		var r server.Ready
		err := server.Run(ctx, cfg,
			server.Options{Notices: &notices, Ready: func(at server.Ready) { r = at; cancel() }})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(notices.String(), passwordOf(t, r)); got != (start == 0) {
			t.Errorf("start %d printed %q", start, notices.String())
		}
	}
}

func TestStartErrorsHaveHints(t *testing.T) {
	cfg := configIn(t.TempDir())
	r, _ := run(t, cfg)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	makeNewer(t, newer)
	for _, test := range []struct {
		name string
		cfg  func(*config.Config)
		want string
	}{
		{"the port is in use", func(c *config.Config) { c.Listen = r.Addr.String() }, "address already in use"},
		{"the directory is in use", func(c *config.Config) { c.DataDir = cfg.DataDir },
			"another ferry uses this data directory"},
		{"the directory is a file", func(c *config.Config) { c.DataDir = file }, "not a directory"},
		{"the directory cannot be made", func(c *config.Config) { c.DataDir = "/proc/ferry" }, "open data directory"},
		{"a newer database", func(c *config.Config) { c.DataDir = newer }, "newer version of ferry"},
		{"no such PostgreSQL", func(c *config.Config) {
			c.Database, c.DatabaseWait = "postgres://u:secret@127.0.0.1:1/d", time.Millisecond
		}, "open database"},
		{"no such host", func(c *config.Config) { c.Listen = "192.0.2.1:0" }, "cannot assign requested address"},
		{"no such name", func(c *config.Config) { c.Listen = "ferry.invalid:0" }, "ferry.invalid"},
		{"no database's URL", func(c *config.Config) { c.Database = "postgres://%zz:secret@h/d" }, "malformed"},
		{"no database's file", func(c *config.Config) { c.Database = "sqlite:" + dir }, "open database"},
		{"no certificate", func(c *config.Config) { c.TLSCert, c.TLSKey = file, file }, "read TLS certificate"},
		{"no connection string", func(c *config.Config) { c.ConnectionString = "hello" }, "connection string"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := configIn(filepath.Join(dir, "other"))
			test.cfg(&c)
			err := server.Run(t.Context(), c, server.Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") ||
				strings.Contains(err.Error(), "secret") {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			var h interface{ Hint() string }
			if !errors.As(err, &h) || h.Hint() == "" {
				t.Errorf("no hint for %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "other", "initial-admin-password")); err == nil {
		t.Error("a start that failed made a password that nobody saw")
	}
	if got, _ := get(t, r.URL+"/health/ready", "", ""); got != 200 {
		t.Errorf("the first instance: %d", got)
	}
}

// makeNewer makes a database in dir with the schema of a later ferry.
func makeNewer(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "ferry.db")
	db, err := metadb.Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseKeepsItsRole(t *testing.T) {
	cfg := configIn(t.TempDir())
	_, stop := run(t, cfg)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	cfg.ConnectionString = noParent
	err := server.Run(t.Context(), cfg, server.Options{})
	if err == nil || !strings.Contains(err.Error(), "data directory of its own") {
		t.Errorf("error %v", err)
	}
}

func TestConnectedRegistryNeedsItsConnectionString(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.ConnectionString = noParent
	_, stop := run(t, cfg)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	cfg.ConnectionString = ""
	err := server.Run(t.Context(), cfg, server.Options{})
	var h interface{ Hint() string }
	if !errors.As(err, &h) || !strings.Contains(err.Error(), "ship1: it needs its connection string") ||
		!strings.Contains(h.Hint(), "--connection-string-file") ||
		strings.Contains(err.Error()+h.Hint(), "data directory") {
		t.Errorf("error %v", err)
	}
}

// A connected registry serves although its parent is unreachable: its start does not wait
// for the link.
func TestConnectedRegistryStartsWithoutItsParent(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.ConnectionString = noParent
	start := time.Now()
	r, stop := run(t, cfg)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	password := passwordOf(t, r)
	if got, body := get(t, r.URL+"/api/v1/status", "admin", password); got != 200 ||
		!strings.Contains(body, "ship1") || strings.Contains(body, "Password") {
		t.Errorf("status: %d %s", got, body)
	}
	if got, _ := get(t, r.URL+"/v2/_catalog", "admin", password); got != 200 {
		t.Errorf("catalog: %d", got)
	}
	if _, body := get(t, r.URL+"/metrics", "admin", password); !strings.Contains(body, "ferry_sync_items_pending 0") ||
		!strings.Contains(body, "ferry_sync_last_success_timestamp_seconds 0") {
		t.Errorf("metrics: %s", body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestStartTakesUnderASecondWith100000Manifests(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("it writes 100,000 rows, and measures time")
	}
	dir := t.TempDir()
	_, stop := run(t, configIn(dir)) // makes the first password, whose hash is slow on purpose
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", filepath.Join(dir, "ferry.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec(`INSERT INTO manifests
			(repository, digest, media_type, artifact_type, subject, annotations, payload, size, pushed_at)
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
		SELECT 'r/' || (i % 1000), printf('sha256:%064x', i), 'application/vnd.oci.image.manifest.v1+json',
			'', '', '{}', '{}', 2, 0 FROM n`)
	if err = errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	best := time.Hour // of three, because other processes may slow one down
	for range 3 {
		start := time.Now()
		r, stop := run(t, configIn(dir))
		if got, _ := get(t, r.URL+"/health/ready", "", ""); got != 200 {
			t.Errorf("ready: %d", got)
		}
		best = min(best, time.Since(start))
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if best > time.Second {
		t.Errorf("it took %s", best)
	}
}

func TestChallengeNamesTheClientsAddressOfTheInstance(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.ExternalURL = "https://registry.example:8443"
	ready, _ := run(t, cfg)
	for _, test := range []struct{ host, want string }{
		{"registry.example:8443", `realm="https://registry.example:8443/oauth2/token"`}, // a proxy terminated TLS
		{"REGISTRY.example:8443", `realm="https://registry.example:8443/oauth2/token"`},
		{"127.0.0.1:5000", `realm="http://127.0.0.1:5000/oauth2/token"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", ready.URL+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = test.host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); !strings.Contains(got, test.want) {
			t.Errorf("asked as %s: %s, want %s in it", test.host, got, test.want)
		}
	}
}
