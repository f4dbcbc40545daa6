package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/server"
	"ferry/internal/storage/storagetest"
)

// A member is one process of a root of several.
type member struct {
	server.Ready
	password string
	stop     func() error
}

// A root of several processes.
type shared struct {
	database, secret, blobs string
	collections             time.Duration // between two; 0 follows the schedule
}

func newShared(t *testing.T) shared {
	t.Helper()
	s := shared{database: dbtest.PostgresURL(t), secret: filepath.Join(t.TempDir(), "secret"), blobs: t.TempDir()}
	if err := os.WriteFile(s.secret, []byte(strings.Repeat("s3cr3t", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts a process with a data directory of its own.
func (s shared) start(t *testing.T) *member {
	t.Helper()
	cfg := configIn(t.TempDir())
	cfg.Database, cfg.ClusterSecretFile = s.database, s.secret
	return startMember(t, cfg, server.Options{
		SharedBlobs: storagetest.Files(t, s.blobs), Adopt: true, Collection: server.Collection{Every: s.collections},
	})
}

// startMember starts a process.
func startMember(t *testing.T, cfg config.Config, o server.Options) *member {
	t.Helper()
	at, done := make(chan server.Ready, 1), make(chan error, 1)
	o.Ready = func(r server.Ready) { at <- r }
	ctx, stop := context.WithCancel(context.Background())
	go func() { done <- server.Run(ctx, cfg, o) }()
	m := &member{}
	select {
	case m.Ready = <-at:
	case err := <-done:
		t.Fatal(err)
	}
	m.stop = func() error {
		stop()
		err := <-done
		done <- nil
		return err
	}
	t.Cleanup(func() { _ = m.stop() })
	if text, err := os.ReadFile(m.AdminPasswordFile); err == nil {
		m.password = strings.TrimSpace(string(text))
	}
	return m
}

// call sends a request as the user admin, and returns the status and the body.
func (m *member) call(t *testing.T, password, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	status, h, text := user{m.URL, "admin", password}.send(t, method, path, []byte(body), header...)
	return status, string(text), h
}

func TestTwoProcessesServeOneRoot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	s := newShared(t)
	a := s.start(t)
	b := s.start(t)
	if a.password == "" || b.password != "" {
		t.Fatalf("the first passwords are %q and %q: want one", a.password, b.password)
	}
	admin := a.password
	must := func(m *member, want int, method, path, body string, header ...string) (string, http.Header) {
		t.Helper()
		status, text, h := m.call(t, admin, method, path, body, header...)
		if status != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, status, text, want)
		}
		return text, h
	}
	next := map[*member]*member{a: b, b: a}

	// An upload begins at one process and goes on at the other; its image is pulled from either.
	m := a
	blob := func(content string) digest.Digest {
		t.Helper()
		d := digest.FromString(content)
		_, h := must(m, http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", "")
		m = next[m]
		_, h = must(m, http.StatusAccepted, "PATCH", strings.TrimPrefix(h.Get("Location"), m.URL), content[:1],
			"Content-Type", "application/octet-stream", "Content-Range", "0-0")
		m = next[m]
		must(m, http.StatusCreated, "PUT", h.Get("Location")+"?digest="+d.String(), content[1:],
			"Content-Type", "application/octet-stream")
		return d
	}
	for n := range 4 {
		config := fmt.Sprintf(`{"n": %d}`, n)
		layer := fmt.Sprintf("layer %d", n)
		manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
			`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},`+
			`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":%d}]}`,
			blob(config), len(config), blob(layer), len(layer))
		must(m, http.StatusCreated, "PUT", "/v2/app/manifests/latest", manifest,
			"Content-Type", "application/vnd.oci.image.manifest.v1+json")
		m = next[m]
		if got, _ := must(m, http.StatusOK, "GET", "/v2/app/manifests/latest", ""); got != manifest {
			t.Errorf("after push %d at the other process, the tag has %s", n, got)
		}
	}

	// A token of one process is accepted by the other, and refused at once after it was revoked there.
	must(a, http.StatusOK, "PUT", "/api/v1/scope-maps/m", `{"actions":["repositories/app/content/read"]}`)
	text, _ := must(b, http.StatusOK, "PUT", "/api/v1/tokens/t", `{"scopeMap":"m","passwords":[{"name":"password1"}]}`)
	var made api.Token
	if err := json.Unmarshal([]byte(text), &made); err != nil || len(made.Credentials.Passwords) == 0 {
		t.Fatalf("no password: %s, %v", text, err)
	}
	password := *made.Credentials.Passwords[0].Value
	_, answer := get(t, b.URL+"/oauth2/token?service=x&scope=repository:app:pull", "t", password)
	var token struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer), &token); err != nil {
		t.Fatal(answer, err)
	}
	pull := func(m *member) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", m.URL+"/v2/app/manifests/latest", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token.Token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if one, two := pull(a), pull(b); one != http.StatusOK || two != http.StatusOK {
		t.Errorf("the token of one process has the answers %d and %d", one, two)
	}
	must(a, http.StatusOK, "PATCH", "/api/v1/tokens/t", `{"status":"disabled"}`)
	if status := pull(b); status != http.StatusUnauthorized {
		t.Errorf("a token that the other process has disabled: %d", status)
	}

	// A guesser is refused at every process, although each has seen only a part of the guesses.
	refused := func(m *member, most int) bool {
		t.Helper()
		for n := range most {
			status, _ := get(t, m.URL+"/v2/", fmt.Sprint("guess", n), "wrong")
			if status == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	}
	if refused(a, 60) || !refused(b, 60) && !refused(a, 20) {
		t.Error("120 guesses at two processes are not refused, or 60 are")
	}

	// Both know of a scrub, which only one does.
	must(b, http.StatusOK, "POST", "/api/v1/scrub", "")
	for _, m := range []*member{a, b} {
		if text, _ := must(m, http.StatusOK, "GET", "/api/v1/scrub", ""); !strings.Contains(text, `"asked":true`) {
			t.Errorf("the scrub of the other process: %s", text)
		}
	}

	// The other process takes over the work of one that ends.
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	for begun := time.Now(); ; {
		status, text, _ := b.call(t, admin, "GET", "/api/v1/scrub", "")
		if status == http.StatusOK {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("no process has taken over: %d %s", status, text)
		}
	}
	must(b, http.StatusOK, "GET", "/v2/app/manifests/latest", "")
}

func TestClusterNeedsASecretAndSharedCertificates(t *testing.T) {
	s := newShared(t)
	short := filepath.Join(s.blobs, "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*config.Config){
		"short secret": func(c *config.Config) { c.ClusterSecretFile = short },
		"lost secret":  func(c *config.Config) { c.ClusterSecretFile = short + "er" },
		"own CA":       func(c *config.Config) { c.TLS = config.TLSOwnCA },
		"SQLite":       func(c *config.Config) { c.Database = "" },
	} {
		cfg := configIn(t.TempDir())
		cfg.Database, cfg.ClusterSecretFile = s.database, s.secret
		change(&cfg)
		err := server.Run(t.Context(), cfg, server.Options{SharedBlobs: storagetest.Files(t, s.blobs), Adopt: true})
		if hint, ok := err.(interface{ Hint() string }); !ok || hint.Hint() == "" {
			t.Errorf("%s: %v, without a hint", name, err)
		}
	}
}

func TestProcessWithoutTheSecretDoesNotShareADatabase(t *testing.T) {
	s := newShared(t)
	s.start(t)
	cfg := configIn(t.TempDir())
	cfg.Database = s.database
	err := server.Run(t.Context(), cfg, server.Options{
		Adopt: true, Ready: func(server.Ready) { t.Error("a process alone has started beside a cluster") },
	})
	if !errors.Is(err, metadb.ErrInUse) {
		t.Errorf("the error is %v, want %v", err, metadb.ErrInUse)
	}
}
