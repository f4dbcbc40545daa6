package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/internal/config"
	"ferry/internal/server"
	"ferry/internal/tlsca"
)

// A watchedLog is a log that a test can wait for.
type watchedLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed with the next line
}

func newWatchedLog() *watchedLog { return &watchedLog{changed: make(chan struct{})} }

func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

// line waits for a line with all parts, and returns it.
func (l *watchedLog) line(t *testing.T, parts ...string) string {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
	lines:
		for line := range strings.Lines(text) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			return line
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no line with %q in the log:\n%s", parts, text)
		}
	}
}

// A reloadable is an instance whose settings a test changes.
type reloadable struct {
	server.Ready
	log    *watchedLog
	level  *slog.LevelVar
	reload chan struct{}

	mu  sync.Mutex
	cfg config.Config
	err error // of the next load
}

// runReloadable starts an instance that reads its settings again when the test says so.
func runReloadable(t *testing.T, cfg config.Config) *reloadable {
	t.Helper()
	r := &reloadable{log: newWatchedLog(), level: new(slog.LevelVar), reload: make(chan struct{}), cfg: cfg}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan server.Ready, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, cfg, server.Options{
			Log:   slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: r.level})),
			Level: r.level, Reload: r.reload, ConnectionInterval: time.Millisecond,
			Load: func() (config.Config, error) {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.cfg, r.err
			},
			Ready: func(v server.Ready) { ready <- v },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case r.Ready = <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return r
}

// change changes the settings, or what reading them returns.
func (r *reloadable) change(do func(cfg *config.Config) error) {
	r.mu.Lock()
	r.err = do(&r.cfg)
	r.mu.Unlock()
	r.reload <- struct{}{}
}

func TestChangedSettingsAreFollowedWithoutARestart(t *testing.T) {
	r := runReloadable(t, configIn(t.TempDir()))
	if status, _ := get(t, r.URL+"/metrics", "", ""); status != 401 {
		t.Fatalf("before: %d", status)
	}
	password := passwordOf(t, r.Ready)
	ask := func(method, path string, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequest(method, r.URL+path, body)
		if err != nil {
			return nil, err
		}
		req.SetBasicAuth("admin", password)
		return http.DefaultClient.Do(req)
	}
	begun, err := ask("POST", "/v2/a/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	begun.Body.Close()
	upload := begun.Header.Get("Location")
	body, sender := io.Pipe()
	answers := make(chan int, 1)
	go func() { // an upload that lasts
		resp, err := ask("PATCH", upload, body)
		if err != nil {
			t.Error(err)
			answers <- 0
			return
		}
		resp.Body.Close()
		answers <- resp.StatusCode
	}()
	_, _ = io.WriteString(sender, "before ") // returns when it is being sent

	r.change(func(cfg *config.Config) error {
		cfg.Metrics, cfg.LogLevel, cfg.ScrubRate = config.MetricsAnyone, slog.LevelWarn, 1<<20
		cfg.Listen, cfg.LogFormat = "127.0.0.1:1", "json"
		return nil
	})
	line := r.log.line(t, "settings were read again")
	if !strings.Contains(line, "changed=scrub-rate,metrics,log-level") ||
		!strings.Contains(line, "needRestart=listen,log-format") {
		t.Error(line)
	}
	if status, _ := get(t, r.URL+"/metrics", "", ""); status != 200 || r.level.Level() != slog.LevelWarn {
		t.Errorf("after: %d, level %v", status, r.level.Level())
	}
	_, _ = io.WriteString(sender, "after")
	sender.Close()
	if status := <-answers; status != 202 {
		t.Errorf("the upload that ran: %d", status)
	}

	r.change(func(cfg *config.Config) error {
		cfg.Metrics = config.MetricsOperators
		return errors.New("a wrong line")
	})
	r.log.line(t, "level=ERROR", "not changed", "a wrong line")
	r.change(func(cfg *config.Config) error { cfg.TrustedProxies = "wrong"; return nil })
	r.log.line(t, "level=ERROR", "not changed", "want addresses and networks")
	r.change(func(cfg *config.Config) error {
		cfg.TrustedProxies, cfg.Listen, cfg.LogFormat, cfg.LogLevel = "", "127.0.0.1:0", "text", slog.LevelInfo
		cfg.Metrics = config.MetricsAnyone
		return nil
	})
	r.log.line(t, "level=INFO", "changed=log-level needRestart=\"\"")
	if status, _ := get(t, r.URL+"/metrics", "", ""); status != 200 {
		t.Errorf("after wrong settings: %d", status)
	}
}

func TestSettingsThatNeedARestartAreAlwaysLogged(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.LogLevel = slog.LevelError
	r := runReloadable(t, cfg)
	r.level.Set(slog.LevelError)
	r.change(func(cfg *config.Config) error { cfg.Listen = "127.0.0.1:1"; return nil })
	r.log.line(t, "level=ERROR", "needRestart=listen")
	// Another kind of certificate does not keep the other settings from being followed.
	r.change(func(cfg *config.Config) error {
		cfg.TLS, cfg.TLSNames, cfg.LogLevel = config.TLSOwnCA, "ship1.example", slog.LevelInfo
		return nil
	})
	r.log.line(t, "level=WARN", "changed=log-level needRestart=listen,tls,tls-names")
	if r.level.Level() != slog.LevelInfo {
		t.Errorf("level %v", r.level.Level())
	}
}

func TestReloadUsesCertificatesOfNewFiles(t *testing.T) {
	cfg := configIn(t.TempDir())
	authority := t.TempDir()
	for _, name := range []string{"first", "second"} { // two instances make the files
		own := configIn(filepath.Join(authority, name))
		own.TLS = config.TLSOwnCA
		_, stop := run(t, own)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	pair := func(cfg *config.Config, name string) {
		dir := filepath.Join(authority, name, "tls")
		cfg.TLSCert, cfg.TLSKey = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	}
	accepts := func(r *reloadable, name string) error {
		ca, err := os.ReadFile(filepath.Join(authority, name, "tls", "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := trusting(t, ca).Get(r.URL + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	pair(&cfg, "first")
	r := runReloadable(t, cfg)
	if err := accepts(r, "first"); err != nil {
		t.Error(err)
	}
	r.change(func(cfg *config.Config) error { cfg.TLSCert = "/nowhere"; return nil })
	r.log.line(t, "not changed", "read TLS certificate", "check the paths")
	if err := accepts(r, "first"); err != nil {
		t.Error(err)
	}
	r.change(func(cfg *config.Config) error { pair(cfg, "second"); return nil })
	r.log.line(t, "changed=tls-cert,tls-key")
	if err := accepts(r, "second"); err != nil {
		t.Error(err)
	}
}

// A gate is a parent that records passwords, and refuses all.
type gate struct {
	mu        sync.Mutex
	passwords map[string]bool
	seen      chan struct{}
}

func newGate(t *testing.T) (*gate, string) {
	g := &gate{passwords: map[string]bool{}, seen: make(chan struct{}, 1)}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	return g, strings.TrimPrefix(srv.URL, "http://")
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, login, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	text, _ := base64.StdEncoding.DecodeString(login)
	g.mu.Lock()
	g.passwords[string(text)] = true
	g.mu.Unlock()
	select {
	case g.seen <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusUnauthorized)
}

// await waits for a login.
func (g *gate) await(t *testing.T, login string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		g.mu.Lock()
		found := g.passwords[login]
		g.mu.Unlock()
		if found {
			return
		}
		select {
		case <-g.seen:
		case <-late:
			t.Fatalf("%s did not log in", login)
		}
	}
}

func TestNewConnectionStringInItsFileIsUsed(t *testing.T) {
	first, at := newGate(t)
	second, elsewhere := newGate(t)
	file := filepath.Join(t.TempDir(), "connection-string")
	put := func(name, password, endpoint string) {
		text := "ConnectedRegistryName=" + name + ";SyncTokenName=" + name + ";SyncTokenPassword=" + password +
			";ParentGatewayEndpoint=" + endpoint + ";ParentEndpointProtocol=http\n"
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put("ship1", "old", at)
	cfg := configIn(t.TempDir())
	cfg.ConnectionStringFile = file
	r := runReloadable(t, cfg)
	first.await(t, "ship1:old")

	put("ship2", "s3cr3t", elsewhere)
	line := r.log.line(t, "level=ERROR", "ship2", "belongs to ship1", "move its data directory")
	put("ship1", "new", elsewhere)
	second.await(t, "ship1:new")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.log.line(t, "level=ERROR", "the file is empty")
	if status, _ := get(t, r.URL+"/health", "", ""); status != 200 {
		t.Errorf("it does not serve any more: %d", status)
	}
	second.mu.Lock()
	defer second.mu.Unlock()
	if second.passwords["ship2:s3cr3t"] || strings.Contains(line, "s3cr3t") {
		t.Error("the connection string of another registry was used, or logged")
	}
}

func TestParentsCAIsTrustedAndFollowed(t *testing.T) {
	dir := t.TempDir()
	authority := func(name string) *tlsca.Authority {
		a, err := tlsca.Open(tlsca.Options{Dir: filepath.Join(dir, name), Log: slog.New(slog.DiscardHandler),
			Names: func() []string { return []string{"127.0.0.1"} }})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	parents, other := authority("parents"), authority("other")
	g := &gate{passwords: map[string]bool{}, seen: make(chan struct{}, 1)}
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	cert, err := parents.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	file := filepath.Join(dir, "ca.crt")
	put := func(text []byte) {
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put(other.Bundle())
	cfg := configIn(t.TempDir())
	cfg.ParentCA = file
	cfg.ConnectionString = "ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=s3cr3t;" +
		"ParentGatewayEndpoint=" + srv.Listener.Addr().String() + ";ParentEndpointProtocol=https"
	r := runReloadable(t, cfg)
	r.log.line(t, "certificate signed by unknown authority")
	put([]byte("no certificate"))
	r.log.line(t, "level=ERROR", "no PEM certificate", "its /ca.crt")
	put(parents.Bundle())
	g.await(t, "ship1:s3cr3t")
}
