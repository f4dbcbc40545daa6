package management_test

import (
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
)

func TestSecretsOfAWebhookAreNeverShown(t *testing.T) {
	root := fleettest.NewRoot(t)
	var made api.Webhook
	shown := root.Call(t, "PUT", "/webhooks/deploy", object{
		"uri": "https://ci.example/hooks/hidden", "actions": []string{"push"},
		"headers": object{"Authorization": "Bearer hidden"},
	}).OK(t, &made).Text
	if !strings.HasPrefix(made.Secret, "whsec_") || made.Endpoint != "https://ci.example" {
		t.Fatalf("%+v", made)
	}
	for _, r := range []fleettest.Response{
		root.Call(t, "GET", "/webhooks", nil), root.Call(t, "GET", "/webhooks/deploy", nil),
		root.Call(t, "PATCH", "/webhooks/deploy", object{"status": "disabled"}),
		root.Call(t, "GET", "/webhooks/deploy/events", nil), root.Call(t, "GET", "/audit-log", nil),
	} {
		shown += r.OK(t, nil).Text
	}
	rows, err := metadb.Read(t.Context(), root.DB, (*metadb.Tx).Webhooks)
	if err != nil {
		t.Fatal(err)
	}
	shown += rows[0].Secrets + string(rows[0].Spec) + root.Log.String()
	if strings.Contains(shown, "hidden") || strings.Count(shown, made.Secret) != 1 {
		t.Errorf("a secret is shown: %s", shown)
	}
	config := root.Call(t, "POST", "/webhooks/deploy/config", nil).OK(t, nil).Text
	if !strings.Contains(config, "https://ci.example/hooks/hidden") || strings.Contains(config, "Bearer") {
		t.Errorf("%s", config)
	}
	root.Call(t, "PATCH", "/webhooks/deploy", object{"uri": "https://other.example/"}).Fails(t, 400, "INVALID")
}

func TestWebhooksAreCheckedAndManagedAtTheRoot(t *testing.T) {
	root := fleettest.NewRoot(t)
	child := newChild(t, root)
	good := object{"uri": "https://h/", "actions": []string{"push"}}
	child.Call(t, "PUT", "/webhooks/deploy", good).Fails(t, 403, "MANAGED_BY_PARENT")
	for _, bad := range []object{
		{"uri": "ftp://h/", "actions": []string{"push"}}, {"uri": "https://h/", "actions": []string{"pull"}},
		{"uri": "https://h/", "actions": []string{}},
		{"uri": "https://h/", "actions": []string{"push"}, "secret": "short"},
		{"uri": "https://h/", "actions": []string{"push"}, "scope": "A"},
	} {
		root.Call(t, "PUT", "/webhooks/deploy", bad).Fails(t, 400, "INVALID")
	}
	root.Call(t, "PUT", "/webhooks/local-hook", good).Fails(t, 409, "CONFLICT")
	good["connectedRegistries"] = []string{"nosuch"}
	root.Call(t, "PUT", "/webhooks/deploy", good).Fails(t, 404, "NOT_FOUND")
	good["connectedRegistries"] = []string{"ship01", "."}
	var made api.Webhook
	root.Call(t, "PUT", "/webhooks/deploy", good).OK(t, &made)
	if strings.Join(made.ConnectedRegistries, " ") != "Ship01 ." {
		t.Errorf("%v", made.ConnectedRegistries)
	}
	root.Call(t, "POST", "/webhooks/deploy/retry", object{"id": 7}).Fails(t, 404, "NOT_FOUND")
	root.Call(t, "DELETE", "/webhooks/deploy", nil).OK(t, nil)
	root.Call(t, "GET", "/webhooks/deploy", nil).Fails(t, 404, "NOT_FOUND")
}
