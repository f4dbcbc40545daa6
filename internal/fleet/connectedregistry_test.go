package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/gateway"
	"ferry/internal/wire"
)

func TestCreateMakesSyncTokenAndScopeMap(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.PutScopeMap(t, "m", "repositories/a/content/read")
		root.PutToken(t, "line1", "m")
		got := root.Call(t, "PUT", "/connected-registries/Ship01", object{
			"mode": "readonly", "repositories": []string{"a", "team/*"}, "clientTokens": []string{"line1", "line1"},
			"syncSchedule": "30 * * * *", "syncWindow": "PT1H", "notifications": []string{"a:*:push", "a:*:push"},
			"logLevel": "debug",
		}).OK(t, nil)
		want := `{
			"id": "/connected-registries/Ship01", "name": "Ship01",
			"type": "Microsoft.ContainerRegistry/registries/connectedRegistries", "mode": "ReadOnly", "version": null,
			"connectionState": "Offline",
			"lastActivityTime": null, "activation": {"status": "Inactive"}, "lastRefusedLogin": null,
			"summary": {"state": "Unknown", "reason": "NotActivated", "cause": null,
				"action": "start the instance at the site with its connection string", "since": null,
				"lagSeconds": null, "itemsToGo": 0, "bytesToGo": 0, "atLeast": false, "atMost": false,
				"bytesPerSecond": 0,
				"nextWindowTime": null, "etaTime": null, "etaWindows": null},
			"sync": {"status": "Unknown", "inSync": false, "asOfTime": "` + start.Format(time.RFC3339) + `",
				"reason": "it was never activated"},
			"parent": {"syncProperties": {"tokenId": "/tokens/Ship01", "authType": "SyncToken",
				"schedule": "30 * * * *", "syncWindow": "PT1H", "messageTtl": "P2D",
				"lastSyncTime": null, "bandwidth": [],
				"lastRotationTime": null, "rotatePasswordEvery": "P30D", "byteBudget": null,
				"priorities": [], "gatewayEndpoint": "` + root.URL[len("http://"):] + `"}},
			"clientTokenIds": ["/tokens/line1"], "loginServer": null,
			"tagFilters": [], "keepLast": null, "platforms": [], "labels": {},
			"logging": {"logLevel": "Debug", "auditLogStatus": "Disabled"}, "statusDetails": [],
			"notificationsList": ["a:*:push"],
			"garbageCollection": {"enabled": true, "schedule": "0 0 * * *"}, "registrySyncResult": {
				"syncState": "NotActivated", "syncTrigger": "InitialSync", "lastSyncStartTime": null,
				"lastSyncEndTime": null, "lastSuccessfulSyncEndTime": null},
			"provisioningState": "Succeeded"
		}`
		if diff := cmp.Diff(parse(t, want), parse(t, got.Text)); diff != "" {
			t.Error(diff)
		}
		actions := []string{
			"repositories/a/content/read", "repositories/a/metadata/read", "repositories/team/*/content/read",
			"repositories/team/*/metadata/read",
			"gateway/ship01/config/read", "gateway/ship01/config/write", "gateway/ship01/message/read",
			"gateway/ship01/message/write",
		}
		if diff := cmp.Diff(actions, root.Actions(t, "Ship01")); diff != "" {
			t.Error(diff)
		}
		var token api.Token
		root.Call(t, "GET", "/tokens/Ship01", nil).OK(t, &token)
		if *token.ScopeMapID != "/scope-maps/Ship01" || token.Status != "enabled" ||
			len(token.Credentials.Passwords) != 0 {
			t.Errorf("%+v", token)
		}
	})
}

func parse(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestDescendantRightsAreAddedToEveryAncestor(t *testing.T) {
	root := newRoot(t)
	root.Call(t, "PUT", "/connected-registries/level1", object{"repositories": []string{"a"}}).OK(t, nil)
	root.Call(t, "PUT", "/connected-registries/level2",
		object{"mode": "ReadOnly", "parent": "LEVEL1", "repositories": []string{"b"}}).OK(t, nil)
	root.Connect(t, "Level3", "level2", "c")
	gateway := func(name string) []string {
		return []string{"gateway/" + name + "/config/read", "gateway/" + name + "/config/write",
			"gateway/" + name + "/message/read", "gateway/" + name + "/message/write"}
	}
	read := func(name string) []string {
		return []string{"repositories/" + name + "/content/read", "repositories/" + name + "/metadata/read"}
	}
	for name, want := range map[string][]string{
		"level1": slices.Concat(read("a"), gateway("level1"), read("b"), gateway("level2"), read("c"),
			gateway("level3")),
		"level2": slices.Concat(read("b"), gateway("level2"), read("c"), gateway("level3")),
		"Level3": slices.Concat(read("c"), gateway("level3")),
	} {
		if diff := cmp.Diff(want, root.Actions(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if r := root.Show(t, "LEVEL3"); *r.Parent.ID != "/connected-registries/level2" ||
		r.Parent.SyncProperties.GatewayEndpoint != "" {
		t.Errorf("%+v", r.Parent)
	}

	names := func(query string) (all []string) {
		var list struct{ Value []api.ConnectedRegistry }
		root.Call(t, "GET", "/connected-registries"+query, nil).OK(t, &list)
		for _, r := range list.Value {
			all = append(all, r.Name)
		}
		return all
	}
	root.Connect(t, "el1_x", "", "x") // its name ends like another one
	root.Connect(t, "other", "level1", "x")
	for query, want := range map[string][]string{
		"":                               {"el1_x", "level1", "level2", "Level3", "other"},
		"?children=direct":               {"el1_x", "level1"},
		"?parent=level1":                 {"level2", "Level3", "other"},
		"?parent=level1&children=direct": {"level2", "other"},
		"?parent=Level3":                 nil,
		"?parent=el1_x&children=direct":  nil,
		"?parent=level2&children=all":    {"Level3"},
	} {
		if diff := cmp.Diff(want, names(query)); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	root.Call(t, "GET", "/connected-registries?parent=nosuch", nil).Fails(t, 404, "NOT_FOUND", "nosuch")
	root.Call(t, "GET", "/connected-registries?children=some", nil).Fails(t, 422, "INVALID", "children")
	root.Call(t, "GET", "/connected-registries?sort=name", nil).Fails(t, 422, "INVALID", "sort")

	// Descendants are deleted first; with --cleanup everything that was created is deleted.
	root.Call(t, "DELETE", "/connected-registries/level2?cleanup=true", nil).Fails(t, 409, "CONFLICT", "Level3")
	root.Call(t, "DELETE", "/connected-registries/level3?cleanup=true", nil).OK(t, nil)
	root.Call(t, "GET", "/tokens/Level3", nil).Fails(t, 404, "NOT_FOUND")
	root.Call(t, "GET", "/scope-maps/Level3", nil).Fails(t, 404, "NOT_FOUND")
	for _, name := range []string{"level1", "level2"} {
		if slices.ContainsFunc(root.Actions(t, name),
			func(a string) bool { return slices.Contains(gateway("level3"), a) }) {
			t.Errorf("%s still has the gateway of level3", name)
		}
	}
	root.Call(t, "DELETE", "/connected-registries/level2?cleanup=false", nil).OK(t, nil)
	root.Call(t, "GET", "/tokens/level2", nil).OK(t, nil)
}

func TestInvalidConnectedRegistryCreatesNothing(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	root.Connect(t, "Ship01", "", "a")
	a := []string{"a"}
	for _, test := range []struct {
		name, path string
		body       object
		status     int
		code, word string
	}{
		{"a short name", "abcd", object{"repositories": a}, 400, "INVALID", "5 to 50"},
		{"a name with a digit first", "1abcd", object{"repositories": a}, 400, "INVALID", "letter"},
		{"neither repositories nor token", "Other1", object{}, 400, "INVALID",
			"either --sync-token or --repository must be provided, but not both"},
		{"both", "Other1", object{"repositories": a, "syncToken": "line1"}, 400, "INVALID", "not both"},
		{"another case of a name", "SHIP01", object{"repositories": []string{"b"}}, 409, "CONFLICT", "Ship01"},
		{"an unknown mode", "Other1", object{"repositories": a, "mode": "Mirror"}, 400, "INVALID", "Mirror"},
		{"a mode", "Other1", object{"repositories": a, "mode": "WriteOnly"}, 400, "INVALID",
			"want ReadOnly or ReadWrite"},
		{"no such parent", "Other1", object{"repositories": a, "parent": "nosuch"}, 404, "NOT_FOUND",
			"parent connected registry 'nosuch' could not be found"},
		{"no such client token", "Other1", object{"repositories": a, "clientTokens": []string{"line1", "nosuch"}}, 404,
			"NOT_FOUND", "nosuch"},
		{"no such sync token", "Other1", object{"syncToken": "nosuch"}, 404, "NOT_FOUND", "nosuch"},
		{"another's sync token", "Other1", object{"syncToken": "Ship01"}, 409, "CONFLICT", "Ship01"},
		{"a sync token that may too little", "Other1", object{"syncToken": "line1"}, 400, "INVALID",
			"repositories/a/metadata/read"},
		{"a repository's name", "Other1", object{"repositories": []string{"a*"}}, 400, "INVALID", "star"},
		{"a cron expression", "Other1", object{"repositories": a, "syncSchedule": "every day", "syncWindow": "PT1H"},
			400, "INVALID", "every day"},
		{"no window", "Other1", object{"repositories": a, "syncSchedule": "0 2 * * *"}, 400, "INVALID", "window"},
		{"a window that is no duration", "Other1",
			object{"repositories": a, "syncSchedule": "0 2 * * *", "syncWindow": "3h"}, 400, "INVALID", "3h"},
		{"a window that is too long", "Other1",
			object{"repositories": a, "syncSchedule": "0 2 * * *", "syncWindow": "P8D"}, 400, "INVALID", "P8D"},
		{"a TTL that is too short", "Other1", object{"repositories": a, "syncMessageTtl": "PT1H"}, 400, "INVALID",
			"PT1H"},
		{"a log level", "Other1", object{"repositories": a, "logLevel": "loud"}, 400, "INVALID", "loud"},
		{"a gc schedule", "Other1", object{"repositories": a, "gcSchedule": "never"}, 400, "INVALID", "never"},
		{"a notification", "Other1", object{"repositories": a, "notifications": []string{"a:b"}}, 400, "INVALID",
			"a:b"},
		{"a name that an operator has", "admin", object{"repositories": a}, 409, "CONFLICT", "operator"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.Call(t, "PUT", "/connected-registries/"+test.path, test.body).Fails(t, test.status, test.code,
				test.word)
			if test.path == "Other1" || test.path == "admin" {
				root.Call(t, "GET", "/scope-maps/"+test.path, nil).Fails(t, 404, "NOT_FOUND")
				root.Call(t, "GET", "/tokens/"+test.path, nil).Fails(t, 404, "NOT_FOUND")
			}
		})
	}
}

func TestRepeatedCreateChangesNothing(t *testing.T) {
	root := newRoot(t)
	body := object{"repositories": []string{"a"}, "mode": "ReadOnly"}
	first := root.Call(t, "PUT", "/connected-registries/Ship01", body).OK(t, nil)
	password := root.SyncPassword(t, "Ship01")
	second := root.Call(t, "PUT", "/connected-registries/Ship01", body).OK(t, nil)
	if first.Text != second.Text {
		t.Errorf("%s\n%s", first.Text, second.Text)
	}
	if !root.MayLogIn(t, "Ship01", password) {
		t.Error("the sync token lost its password")
	}
	body["syncMessageTtl"] = "P3D"
	root.Call(t, "PUT", "/connected-registries/Ship01", body).Fails(t, 409, "CONFLICT", "exists already",
		"connected-registry update")
	root.Call(t, "PUT", "/connected-registries/Ship01", object{"repositories": []string{"b"}}).Fails(t, 409, "CONFLICT")
}

func TestCreateReplacesTheScopeMapOfTheSameName(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "old")
	password := root.SyncPassword(t, "Ship01")
	root.Call(t, "DELETE", "/connected-registries/Ship01", nil).OK(t, nil)
	root.Connect(t, "Ship01", "", "new")
	if got := root.Actions(t, "Ship01"); got[0] != "repositories/new/content/read" || len(got) != 6 {
		t.Errorf("%v", got)
	}
	if root.MayLogIn(t, "Ship01", password) {
		t.Error("a password from before works")
	}
}

func TestExistingTokenCanBeTheSyncToken(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read", "repositories/a/metadata/read")
	password := root.PutToken(t, "mine", "m")
	root.Call(t, "PUT", "/connected-registries/Ship01", object{"syncToken": "mine"}).OK(t, nil)
	p, err := root.Control.Directory().Authenticate(t.Context(), "mine", password)
	if err != nil || !p.Permissions.AllowsGateway("SHIP01", "message/read") {
		t.Errorf("%v, %+v", err, p)
	}
	root.Call(t, "GET", "/scope-maps/Ship01", nil).Fails(t, 404, "NOT_FOUND")
}

func TestSettingsCanBeUpdated(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	root.PutToken(t, "line2", "m")
	root.Call(t, "PUT", "/connected-registries/Ship01",
		object{"repositories": []string{"a"}, "syncSchedule": "0 2 * * *", "syncWindow": "PT3H",
			"clientTokens": []string{"line1"}}).OK(t, nil)
	var r api.ConnectedRegistry
	root.Call(t, "PATCH", "/connected-registries/ship01", object{
		"addClientTokens": []string{"line2"}, "removeClientTokens": []string{"line1"},
		"addNotifications": []string{"a:*:*"},
		"syncMessageTtl":   "P10D", "gcEnabled": false, "gcSchedule": "0 5 * * *", "logLevel": "None",
	}).OK(t, &r)
	p := r.Parent.SyncProperties
	if p.MessageTTL != "P10D" || r.GarbageCollection.Enabled || r.GarbageCollection.Schedule != "0 5 * * *" ||
		r.Logging.LogLevel != "None" ||
		!slices.Equal(r.ClientTokenIDs, []string{"/tokens/line2"}) ||
		!slices.Equal(r.NotificationsList, []string{"a:*:*"}) || *p.SyncWindow != "PT3H" {
		t.Errorf("%+v", r)
	}
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"syncSchedule": "* * * * *"}).OK(t, &r)
	if r.Parent.SyncProperties.SyncWindow != nil {
		t.Errorf("a continuous sync has the window %s", *r.Parent.SyncProperties.SyncWindow)
	}
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"syncSchedule": "0 2 * * *"}).Fails(t, 400, "INVALID",
		"window")
	root.Call(t, "PATCH", "/connected-registries/Ship01",
		object{"addClientTokens": []string{"line1"}, "removeClientTokens": []string{"line1"}}).Fails(t, 400, "INVALID",
		"ambiguity")
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"mode": "ReadWrite"}).Fails(t, 422, "INVALID", "mode")
	root.Call(t, "PATCH", "/connected-registries/nosuch", object{"gcEnabled": true}).Fails(t, 404, "NOT_FOUND",
		"nosuch")
}

func TestInstanceSettingsContainAConnectionString(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Cabin1", "Ship01", "a")
	host := root.URL[len("http://"):]
	const none = "<use --generate-password to generate a new password>"
	want := object{
		"ACR_REGISTRY_CERTIFICATE_VOLUME": "/var/acr/certs", "ACR_REGISTRY_DATA_VOLUME": "/var/acr/data",
		"ACR_REGISTRY_CONNECTION_STRING": "ConnectedRegistryName=Ship01;SyncTokenName=Ship01;SyncTokenPassword=" +
			none + ";ParentGatewayEndpoint=" + host + ";ParentEndpointProtocol=https",
		"ACR_REGISTRY_LOGIN_SERVER": "<Optional: connected registry login server>",
		"SYNC_TOKEN_PASSWORD":       none, "SYNC_TOKEN_USER": "Ship01",
	}
	var got object
	root.Call(t, "POST", "/connected-registries/ship01/settings", object{"parentProtocol": "https"}).OK(t, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var v api.InstanceSettings
	root.Call(t, "POST", "/connected-registries/Ship01/settings",
		object{"parentProtocol": "http", "generatePassword": 2}).OK(t, &v)
	c, err := wire.ParseConnectionString(v.ConnectionString)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "Ship01" || c.Password != v.SyncTokenPassword || c.Endpoint != host || c.Protocol != "http" ||
		!root.MayLogIn(t, c.Token, c.Password) {
		t.Errorf("%v", c)
	}
	root.Call(t, "POST", "/connected-registries/Cabin1/settings", object{"parentProtocol": "http"}).OK(t, &got)
	if want := "ParentGatewayEndpoint=<parent gateway endpoint>;"; !contains(got["ACR_REGISTRY_CONNECTION_STRING"],
		want) {
		t.Errorf("%v", got)
	}
	root.Call(t, "POST", "/connected-registries/Ship01/settings", object{"parentProtocol": "ftp"}).Fails(t, 422,
		"INVALID", "parentProtocol")
	root.Call(t, "POST", "/connected-registries/Ship01/settings",
		object{"parentProtocol": "http", "generatePassword": 3}).Fails(t, 422, "INVALID", "generatePassword")
	root.Call(t, "POST", "/connected-registries/nosuch/settings", object{"parentProtocol": "http"}).Fails(t, 404,
		"NOT_FOUND", "nosuch")
}

func TestConnectionStringHasTheParentsReportedAddress(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Cabin1", "Ship01", "a")
	if err := root.Activate(t.Context(), "Ship01", "ship", "v1", from); err != nil {
		t.Fatal(err)
	}
	settings := func(protocol string) string {
		t.Helper()
		var v api.InstanceSettings
		root.Call(t, "POST", "/connected-registries/Cabin1/settings", object{"parentProtocol": protocol}).OK(t, &v)
		return v.ConnectionString
	}
	for _, test := range []struct {
		status                  wire.Status
		protocol, endpoint, use string
	}{
		{wire.Status{LoginServer: "ship.example:5000"}, "http", "ship.example:5000", "http"},
		{wire.Status{LoginServer: "ship.example:5000"}, "https", "ship.example:5000", "https"},
		{wire.Status{LoginServer: "ship.example:5000", TLS: true}, "http", "ship.example:5000", "https"},
		{wire.Status{LoginServer: "ship.example", Endpoint: "ship.example/ferry", TLS: true}, "https",
			"ship.example/ferry", "https"},
		{wire.Status{}, "https", "<parent gateway endpoint>", "https"},
		{wire.Status{LoginServer: "a;SyncTokenName=b"}, "https", "<parent gateway endpoint>", "https"},
	} {
		test.status.Name, test.status.InstanceID, test.status.State = "Ship01", "ship", "Online"
		if err := root.Report(t.Context(), "Ship01", "ship", &wire.Report{Self: test.status}); err != nil {
			t.Fatal(err)
		}
		want := "ParentGatewayEndpoint=" + test.endpoint + ";ParentEndpointProtocol=" + test.use
		if text := settings(test.protocol); !strings.HasSuffix(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
		shown := root.Show(t, "Cabin1").Parent.SyncProperties.GatewayEndpoint
		if shown != test.endpoint && shown != "" {
			t.Errorf("show: %q, want %q", shown, test.endpoint)
		}
	}
}

func TestTreeGrowsNoLargerThanAChildAccepts(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Cabin1", "Ship01", "a")
	var tokens []string
	for i := range 64 {
		name := fmt.Sprint("line", i)
		var actions []string
		for j := range 500 {
			actions = append(actions, fmt.Sprintf("repositories/%s/%d/content/read", strings.Repeat("long", 45), j))
		}
		root.PutScopeMap(t, name, actions...)
		root.PutToken(t, name, name)
		tokens = append(tokens, name)
	}
	patch := func(tokens []string) fleettest.Response {
		return root.Call(t, "PATCH", "/connected-registries/Cabin1", object{"addClientTokens": tokens})
	}
	patch(tokens).Fails(t, 409, "CONFLICT", "'Ship01'", "fewer client tokens")
	patch(tokens[:52]).OK(t, nil)
	desk := object{"parent": "Cabin1", "repositories": []string{"a"}, "clientTokens": tokens[52:]}
	root.Call(t, "PUT", "/connected-registries/Desk01", desk).
		Fails(t, 409, "CONFLICT", "'Ship01'", "1 others", "at the top")
	root.Connect(t, "Ship02", "", "a")
	root.Connect(t, "Desk01", "Cabin1", "a")
	d, err := root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	if size, err := gateway.SizeOf(d); err != nil || !size.Fits() {
		t.Errorf("the desired state: %v, %v", size, err)
	}
}

func TestParentWithTLSForcesHTTPS(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "a")
	for _, tls := range []bool{true, false} {
		v, err := root.InstanceSettings(t.Context(), control.Caller{Host: "root.example", TLS: tls}, "Ship01",
			api.SettingsPost{ParentProtocol: "http"})
		want := ";ParentEndpointProtocol=http"
		if tls {
			want += "s"
		}
		if err != nil || !strings.HasSuffix(v.ConnectionString, want) {
			t.Errorf("TLS %v: %q %v", tls, v.ConnectionString, err)
		}
	}
}
