package fleettest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"ferry/internal/api"
)

// A Response is an answer of the management API.
type Response struct {
	Status int
	Header http.Header
	Text   string
}

// Call makes a request of the management API as admin. body is JSON text, a value to encode, or
// nil. headers are alternating names and values.
func (i *Instance) Call(t *testing.T, method, path string, body any, header ...string) Response {
	t.Helper()
	return i.CallAs(t, "admin", i.Password, method, path, body, header...)
}

// CallAs is like [Instance.Call], as another user; "" sends no login.
func (i *Instance) CallAs(t *testing.T, user, password, method, path string, body any, header ...string) Response {
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
	req, err := http.NewRequest(method, i.URL+"/api/v1"+path, reader)
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
	return Response{resp.StatusCode, resp.Header, string(text)}
}

// OK fails the test unless the call succeeded, and decodes the answer into v.
func (r Response) OK(t *testing.T, v any) Response {
	t.Helper()
	if r.Status >= 300 {
		t.Fatalf("status %d: %s", r.Status, r.Text)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(r.Text), v); err != nil {
			t.Fatalf("%v: %s", err, r.Text)
		}
	}
	return r
}

// Fails fails the test unless the answer is a problem with the status and the code that contains
// all of words.
func (r Response) Fails(t *testing.T, status int, code string, words ...string) {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal([]byte(r.Text), &p); err != nil {
		t.Fatalf("%v: %d %s", err, r.Status, r.Text)
	}
	if r.Status != status || p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" {
		t.Fatalf("%d %s, want status %d and code %s", r.Status, r.Text, status, code)
	}
	if status == http.StatusConflict && !strings.Contains(p.Hint, "ferry ") && !strings.Contains(p.Hint, "--") {
		t.Errorf("the hint %q names no command and no setting that resolves %q", p.Hint, p.Detail)
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	for _, w := range words {
		if !strings.Contains(r.Text, w) {
			t.Errorf("%s does not say %q", r.Text, w)
		}
	}
}

type object = map[string]any

// PutScopeMap creates a scope map.
func (i *Instance) PutScopeMap(t *testing.T, name string, actions ...string) {
	t.Helper()
	i.Call(t, "PUT", "/scope-maps/"+name, object{"actions": actions}).OK(t, nil)
}

// PutToken creates a token with one password, and returns that.
func (i *Instance) PutToken(t *testing.T, name, scopeMap string) string {
	t.Helper()
	var made api.Token
	body := object{"scopeMap": scopeMap, "passwords": []object{{"name": "password1"}}}
	i.Call(t, "PUT", "/tokens/"+name, body).OK(t, &made)
	return *made.Credentials.Passwords[0].Value
}

// Connect creates a connected registry that syncs the repositories.
func (i *Instance) Connect(t *testing.T, name, parent string, repositories ...string) {
	t.Helper()
	body := object{"parent": parent, "repositories": repositories}
	i.Call(t, "PUT", "/connected-registries/"+name, body).OK(t, nil)
}

// SyncPassword makes the first password of a connected registry's sync token.
func (i *Instance) SyncPassword(t *testing.T, name string) string {
	t.Helper()
	var v api.InstanceSettings
	body := object{"parentProtocol": "http", "generatePassword": 1}
	i.Call(t, "POST", "/connected-registries/"+name+"/settings", body).OK(t, &v)
	return v.SyncTokenPassword
}

// Show returns a connected registry.
func (i *Instance) Show(t *testing.T, name string) (r api.ConnectedRegistry) {
	t.Helper()
	i.Call(t, "GET", "/connected-registries/"+name, nil).OK(t, &r)
	return r
}

// Actions returns a scope map's actions.
func (i *Instance) Actions(t *testing.T, name string) []string {
	t.Helper()
	var m api.ScopeMap
	i.Call(t, "GET", "/scope-maps/"+name, nil).OK(t, &m)
	return m.Actions
}
