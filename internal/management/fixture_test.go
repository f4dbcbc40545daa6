package management_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/storage/blob/fs"
	"ferry/internal/wire"
)

// start is when the tests' clock begins.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// An instance is a control plane with its management API, and a clock that
// the test holds.
type instance struct {
	*fleet.Service
	control  *control.Service
	storage  *storage.Storage
	db       *metadb.DB
	auth     *auth.Authenticator
	url      string
	password string
	log      *bytes.Buffer
	now      time.Time
	status   *wire.Status
}

// onEvery runs test with a root on each database.
func onEvery(t *testing.T, test func(t *testing.T, root *instance)) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) { test(t, newInstance(t, db, "")) })
}

// newRoot returns a root on SQLite.
func newRoot(t *testing.T) *instance { return newInstance(t, dbtest.SQLite(t), "") }

// newInstance returns an instance; self is "" for a root.
func newInstance(t *testing.T, db *metadb.DB, self string) *instance {
	t.Helper()
	i := &instance{db: db, log: &bytes.Buffer{}, now: start}
	clock := func() time.Time { return i.now }
	blobs, err := fs.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if i.storage, err = storage.New(storage.Options{DB: db, Blobs: blobs, Now: clock}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(i.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if i.control, err = control.New(t.Context(), control.Options{DB: db, Self: self, Log: log, Now: clock}); err != nil {
		t.Fatal(err)
	}
	i.Service, err = fleet.New(t.Context(), fleet.Options{
		DB: db, Control: i.control, Content: i.storage, Status: func() *wire.Status { return i.status }, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	if i.password, err = i.control.EnsureAdmin(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	i.auth = auth.NewAuthenticator(auth.AuthenticatorOptions{Directory: i.control.Directory(), Signer: i.control.Signer(), Now: clock})
	srv := httptest.NewServer(management.NewHandler(management.Options{
		Control: i.control, Fleet: i.Service, Authenticator: i.auth, Repositories: i.storage, Version: "v1.2.3", Log: log,
	}))
	t.Cleanup(srv.Close)
	i.url = srv.URL
	return i
}

// A response is what the management API answered.
type response struct {
	status int
	header http.Header
	text   string
}

// call makes a request of the management API as admin. body is JSON, or nil.
func (i *instance) call(t *testing.T, method, path string, body any, header ...string) response {
	t.Helper()
	return i.callAs(t, "admin", i.password, method, path, body, header...)
}

func (i *instance) callAs(t *testing.T, user, password, method, path string, body any, header ...string) response {
	t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, i.url+"/api/v1"+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for n := 0; n+1 < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(text)}
}

// ok fails the test unless the call succeeded, and reads its answer into v.
func (r response) ok(t *testing.T, v any) response {
	t.Helper()
	if r.status >= 300 {
		t.Fatalf("status %d: %s", r.status, r.text)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(r.text), v); err != nil {
			t.Fatalf("%v: %s", err, r.text)
		}
	}
	return r
}

// fails fails the test unless the call was answered with a problem of the
// status and code whose text has all of words.
func (r response) fails(t *testing.T, status int, code string, words ...string) {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal([]byte(r.text), &p); err != nil {
		t.Fatalf("%v: %d %s", err, r.status, r.text)
	}
	if r.status != status || p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" {
		t.Fatalf("%d %s, want status %d and code %s", r.status, r.text, status, code)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	for _, w := range words {
		if !strings.Contains(r.text, w) {
			t.Errorf("%s does not say %q", r.text, w)
		}
	}
}

type object = map[string]any

// scopeMap creates a scope map.
func (i *instance) scopeMap(t *testing.T, name string, actions ...string) {
	t.Helper()
	i.call(t, "PUT", "/scope-maps/"+name, object{"actions": actions}).ok(t, nil)
}

// token creates a token with one password, and returns that.
func (i *instance) token(t *testing.T, name, scopeMap string) string {
	t.Helper()
	var made api.Token
	i.call(t, "PUT", "/tokens/"+name, object{"scopeMap": scopeMap, "passwords": []object{{"name": "password1"}}}).ok(t, &made)
	return *made.Credentials.Passwords[0].Value
}

// connect creates a connected registry that syncs the repositories.
func (i *instance) connect(t *testing.T, name, parent string, repositories ...string) {
	t.Helper()
	i.call(t, "PUT", "/connected-registries/"+name, object{"parent": parent, "repositories": repositories}).ok(t, nil)
}

// syncPassword makes the first password of a connected registry's sync token.
func (i *instance) syncPassword(t *testing.T, name string) string {
	t.Helper()
	var v api.InstanceSettings
	i.call(t, "POST", "/connected-registries/"+name+"/settings", object{"parentProtocol": "http", "generatePassword": 1}).ok(t, &v)
	return v.SyncTokenPassword
}

// show returns a connected registry.
func (i *instance) show(t *testing.T, name string) (r api.ConnectedRegistry) {
	t.Helper()
	i.call(t, "GET", "/connected-registries/"+name, nil).ok(t, &r)
	return r
}
