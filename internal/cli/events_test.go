package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/internal/events"
)

// A delivery is an event that an endpoint got.
type delivery struct {
	signed bool
	events.CloudEvent
}

// endpoint returns the URL of an endpoint whose secret is key, and what it gets.
func endpoint(t *testing.T, key []byte) (string, <-chan delivery) {
	t.Helper()
	got := make(chan delivery, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		var d delivery
		if err := json.Unmarshal(body, &d.CloudEvent); err != nil {
			t.Error(err)
		}
		h := r.Header
		want := events.Sign(key, h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
		d.signed = h.Get("Webhook-Signature") == want &&
			h.Get("Content-Type") == "application/cloudevents+json" && h.Get("Webhook-Id") == d.ID
		got <- d
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/hook?token=hidden", got
}

// awaitEvents returns the next n events, as their types and subjects, sorted.
func awaitEvents(t *testing.T, got <-chan delivery, n int) (all []string) {
	t.Helper()
	for range n {
		d := <-got
		if !d.signed || d.SpecVersion != "1.0" {
			t.Errorf("delivery %+v", d)
		}
		from := "root"
		if d.Data.ConnectedRegistry != nil {
			from = d.Data.ConnectedRegistry.Name
			if d.Source != "/connectedRegistries/"+from {
				t.Errorf("source %s", d.Source)
			}
		}
		subject, _, _ := strings.Cut(d.Subject, "@")
		all = append(all, from+" "+d.Type+" "+subject)
	}
	slices.Sort(all)
	return all
}

// TestEventsReachWebhooksAndHooks runs a root and a connected registry: events of both are delivered
// from the root, and those of the connected registry also by its hook and its own webhook. Its audit
// log is at the root.
func TestEventsReachWebhooksAndHooks(t *testing.T) {
	dir := t.TempDir()
	secret := events.NewSecret()
	key, err := events.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "hook")
	script := "#!/bin/sh\ncat > /dev/null\necho \"$FERRY_EVENT $FERRY_REPOSITORY $FERRY_TAG\" >> " + dir + "/ran\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &managed{}
	m.root = startInstance(t, filepath.Join(dir, "root"))
	atRoot, fromRoot := endpoint(t, key)
	m.call(t, m.root, "PUT", "/webhooks/all", map[string]any{
		"uri": atRoot, "secret": secret, "actions": []string{"push", "delete", "complete", "failed", "first_pull"},
	})
	m.call(t, m.root, "PUT", "/connected-registries/ship1", map[string]any{
		"repositories": []string{"factory/app"}, "notifications": []string{"factory/*:*"}, "auditLogsEnabled": true,
		"clientTokens": []string{},
	})
	settings := m.call(t, m.root, "POST", "/connected-registries/ship1/settings",
		map[string]any{"parentProtocol": "http", "generatePassword": 1})
	atChild, fromChild := endpoint(t, key)
	m.child = startInstance(t, filepath.Join(dir, "ship1"),
		"--connection-string", settings["ACR_REGISTRY_CONNECTION_STRING"].(string),
		"--parent-endpoint", strings.TrimPrefix(m.root.url, "http://"),
		"--hook", program, "--webhook", atChild, "--webhook-secret-file", filepath.Join(dir, "secret"))
	if err := push(m.root.url, "admin", m.root.password, "factory/app:v1"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"root Microsoft.ContainerRegistry.ImagePushed factory/app:v1",
		"ship1 Ferry.ImageComplete factory/app:v1",
		"ship1 Microsoft.ContainerRegistry.ImagePushed factory/app:v1",
	}
	if got := awaitEvents(t, fromRoot, 3); !slices.Equal(got, want) {
		t.Errorf("the root delivered %q", got)
	}
	if got := awaitEvents(t, fromChild, 1); !slices.Equal(got, []string{"ship1 Ferry.ImageComplete factory/app:v1"}) {
		t.Errorf("the connected registry delivered %q", got)
	}
	for range 2 { // only the first pull is an event
		if err := pull(m.child.url, "admin", m.child.password, "factory/app:v1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := awaitEvents(t, fromRoot, 1); !slices.Equal(got, []string{"ship1 Ferry.ImagePulledFirst factory/app:v1"}) {
		t.Errorf("after the pull, the root delivered %q", got)
	}
	m.call(t, m.root, "DELETE", "/repositories/factory/app", nil)
	for range 4 { // a tag and a manifest at each
		if d := <-fromRoot; d.Type != "Microsoft.ContainerRegistry.ImageDeleted" {
			t.Errorf("after the deletion, the root delivered %+v", d)
		}
	}
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	if err != nil || string(ran) != "complete factory/app v1\nfirst_pull factory/app v1\n" {
		t.Errorf("the hook ran with %q %v", ran, err)
	}
	m.call(t, m.child, "POST", "/sync/now", nil)
	const entries = "/audit-log?connectedRegistry=ship1&resource=sync&action=now"
	for len(m.call(t, m.root, "GET", entries, nil)["value"].([]any)) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the audit log of the connected registry is not at the root")
		}
	}
}
