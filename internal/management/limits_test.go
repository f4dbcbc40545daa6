package management_test

import (
	"slices"
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
)

// limited is a root with resources within and outside of the limits of the operators "baltic", an
// admin, and "viewer", a reader: repositories team/* and the label group=baltic.
func limited(t *testing.T) *fleettest.Instance {
	t.Helper()
	root := fleettest.NewRoot(t)
	limits := metadb.OperatorLimits{Repositories: []string{"team/*"}, Labels: []string{"group=baltic"}}
	err := root.Control.Change(t.Context(), func(tx *metadb.Tx) error {
		for name, role := range map[string]string{"baltic": "admin", "viewer": "reader"} {
			if err := tx.PutOperator(metadb.Operator{Name: name, Role: role, Limits: limits, CreatedAt: start,
				PasswordHash: fleettest.HashPassword("secret")}); err != nil {
				return err
			}
		}
		for _, name := range []string{"team/app", "team/web", "teams", "secret"} {
			if err := tx.TouchRepository(name, start); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	root.PutScopeMap(t, "team", "repositories/team/*/content/read")
	root.PutScopeMap(t, "mixed", "repositories/team/app/content/read", "repositories/secret/content/read")
	root.PutToken(t, "line1", "team")
	root.PutToken(t, "line2", "mixed")
	baltic := object{"group": "baltic"}
	for name, body := range map[string]object{
		"Ship01": {"repositories": []string{"team/app"}, "labels": baltic},
		"Ship02": {"repositories": []string{"team/app"}, "labels": object{"group": "north"}},
		"Ship03": {"repositories": []string{"team/app", "secret"}, "labels": baltic},
	} {
		root.Call(t, "PUT", "/connected-registries/"+name, body).OK(t, nil)
	}
	return root
}

// as makes a call as the limited operator.
func as(t *testing.T, root *fleettest.Instance, method, path string, body any) fleettest.Response {
	t.Helper()
	return root.CallAs(t, "baltic", "secret", method, path, body)
}

func TestListsShowNothingOutsideOfTheLimits(t *testing.T) {
	root := limited(t)
	for path, want := range map[string]string{
		"/connected-registries": "Ship01 Ship03", "/scope-maps": "Ship01 team", "/tokens": "Ship01 line1",
		"/repositories": "team/app team/web",
	} {
		var page struct{ Value []struct{ Name string } }
		for _, operator := range []string{"baltic", "viewer"} {
			root.CallAs(t, operator, "secret", "GET", path, nil).OK(t, &page)
			var names []string
			for _, v := range page.Value {
				names = append(names, v.Name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s shows %s to %s, want %s", path, got, operator, want)
			}
		}
	}
	var first struct {
		Value    []api.Repository
		NextLink string
	}
	as(t, root, "GET", "/repositories?n=1", nil).OK(t, &first)
	if len(first.Value) != 1 || first.NextLink != "/api/v1/repositories?last=team%2Fapp&n=1" {
		t.Errorf("%+v", first)
	}
	var audit struct{ Value []api.AuditEntry }
	as(t, root, "GET", "/audit-log", nil).OK(t, &audit)
	for _, e := range audit.Value {
		if !slices.Contains([]string{"connected-registries/Ship01", "connected-registries/Ship03", "scope-maps/team",
			"tokens/line1"}, e.Object) {
			t.Errorf("the audit log shows %s", e.Object)
		}
	}
	if len(audit.Value) != 4 {
		t.Errorf("%d audit entries", len(audit.Value))
	}
}

func TestResourcesOutsideOfTheLimitsAreNotFound(t *testing.T) {
	root := limited(t)
	for _, path := range []string{
		"/connected-registries/Ship02", "/scope-maps/mixed", "/scope-maps/_repositories_pull", "/tokens/line2",
		"/tokens/Ship03", "/repositories/secret", "/repositories/teams", "/connected-registries/ship02/sync-status",
	} {
		as(t, root, "GET", path, nil).Fails(t, 404, "NOT_FOUND")
	}
	for _, path := range []string{
		"/connected-registries/Ship01", "/connected-registries/Ship01/sync-status", "/scope-maps/team",
		"/tokens/line1", "/repositories/team/app", "/status", "/openapi.json",
	} {
		as(t, root, "GET", path, nil).OK(t, nil)
	}
}

func TestLimitedAdminCannotWidenItsRights(t *testing.T) {
	root := limited(t)
	actions := func(all ...string) object { return object{"actions": all} }
	const read, secret = "repositories/team/app/content/read", "repositories/secret/content/read"
	before := state(t, root)
	for _, c := range []struct {
		name, method, path string
		body               any
		code               string
	}{
		{"a scope map outside", "PUT", "/scope-maps/new", actions(read, secret), "DENIED"},
		{"a scope map of everything", "PUT", "/scope-maps/new", actions("repositories/*/content/read"), "DENIED"},
		{"a gateway outside", "PUT", "/scope-maps/new", actions("gateway/Ship02/message/read"), "DENIED"},
		{"a gateway that does not exist", "PUT", "/scope-maps/new", actions("gateway/Ship99/message/read"), "DENIED"},
		{"more in a scope map", "PATCH", "/scope-maps/team", object{"addActions": []string{secret}}, "DENIED"},
		{"another's scope map", "PUT", "/scope-maps/mixed", actions(read), "DENIED"},
		{"a scope map of the system for a token", "PUT", "/tokens/new", object{"scopeMap": "_repositories_admin"},
			"DENIED"},
		{"another scope map for a token", "PATCH", "/tokens/line1", object{"scopeMap": "mixed"}, "DENIED"},
		{"another's token", "PUT", "/tokens/line2", object{"scopeMap": "team"}, "DENIED"},
		{"another's password", "POST", "/tokens/line2/credentials",
			object{"passwords": []string{"password1"}}, "NOT_FOUND"},
		{"the password of a site with more repositories", "POST", "/connected-registries/Ship03/settings",
			object{"parentProtocol": "http", "generatePassword": 1}, "DENIED"},
		{"a join token of a site with more repositories", "POST", "/connected-registries/Ship03/settings",
			object{"parentProtocol": "http", "joinFor": "PT24H"}, "DENIED"},
		{"a site without the label", "PUT", "/connected-registries/Ship04",
			object{"repositories": []string{"team/app"}}, "DENIED"},
		{"a site with a repository outside", "PUT", "/connected-registries/Ship04",
			object{"repositories": []string{"secret"}, "labels": object{"group": "baltic"}}, "DENIED"},
		{"a site below another's", "PUT", "/connected-registries/Ship04", object{"parent": "Ship02",
			"repositories": []string{"team/app"}, "labels": object{"group": "baltic"}}, "DENIED"},
		{"a client token outside", "PATCH", "/connected-registries/Ship01",
			object{"addClientTokens": []string{"line2"}}, "DENIED"},
		{"a site out of the limits", "PATCH", "/connected-registries/Ship01",
			object{"labels": object{"group": "north"}}, "DENIED"},
		{"another's site", "PATCH", "/connected-registries/Ship02", object{"labels": object{"group": "baltic"}},
			"NOT_FOUND"},
		{"another's site, deleted", "DELETE", "/connected-registries/Ship02", nil, "NOT_FOUND"},
		{"another's repository", "DELETE", "/repositories/secret", nil, "NOT_FOUND"},
	} {
		r := as(t, root, c.method, c.path, c.body)
		if !strings.Contains(r.Text, `"code":"`+c.code+`"`) {
			t.Errorf("%s: %d %s, want %s", c.name, r.Status, r.Text, c.code)
		}
		if after := state(t, root); after != before {
			t.Fatalf("%s changed something:\n%s\n%s", c.name, before, after)
		}
	}
}

// state returns all that operators can change.
func state(t *testing.T, root *fleettest.Instance) (text string) {
	t.Helper()
	for _, path := range []string{"/scope-maps", "/tokens", "/connected-registries", "/repositories"} {
		text += root.Call(t, "GET", path, nil).OK(t, nil).Text
	}
	return text
}

func TestLimitedAdminManagesResourcesWithinItsLimits(t *testing.T) {
	root := limited(t)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"PUT", "/scope-maps/new", object{"actions": []string{"repositories/team/app/content/read"}}},
		{"PUT", "/tokens/new", object{"scopeMap": "new", "passwords": []object{{"name": "password1"}}}},
		{"POST", "/tokens/line1/credentials", object{"passwords": []string{"password1"}}},
		{"PUT", "/connected-registries/Ship04", object{"parent": "Ship01", "repositories": []string{"team/web"},
			"labels": object{"group": "baltic"}, "clientTokens": []string{"new"}}},
		{"PATCH", "/connected-registries/Ship03", object{"gcEnabled": false}},
		{"POST", "/connected-registries/Ship01/settings", object{"parentProtocol": "http", "generatePassword": 1}},
		{"POST", "/connected-registries/Ship03/resync", nil},
		{"DELETE", "/connected-registries/Ship04?cleanup=true", nil},
		{"DELETE", "/tokens/new", nil},
		{"DELETE", "/scope-maps/new", nil},
		{"DELETE", "/repositories/team/app", nil},
	} {
		as(t, root, c.method, c.path, c.body).OK(t, nil)
	}
	root.CallAs(t, "viewer", "secret", "DELETE", "/repositories/team/web", nil).Fails(t, 403, "DENIED", "may only read")
}

func TestOperatorsManageOnlyTheirOwnLogins(t *testing.T) {
	root := limited(t)
	expiry := object{"expiry": start.AddDate(0, 1, 0)}
	for _, operator := range []string{"baltic", "viewer"} {
		call := func(method, path string, body any) fleettest.Response {
			return root.CallAs(t, operator, "secret", method, path, body)
		}
		call("GET", "/operators/"+operator, nil).OK(t, nil)
		var k api.APIKey
		call("PUT", "/operators/"+operator+"/api-keys/k", expiry).OK(t, &k)
		call("PUT", "/operators/admin/api-keys/k", expiry).Fails(t, 403, "DENIED")
		call("POST", "/operators/admin/password", object{}).Fails(t, 403, "DENIED")
		call("PUT", "/operators/new", object{"role": "reader"}).Fails(t, 403, "DENIED")
		call("PATCH", "/operators/"+operator, object{"repositories": []string{}}).Fails(t, 403, "DENIED")
		// With the key it reads the same, and changes no login.
		var l api.Login
		bearer := func(method, path string, body any) fleettest.Response {
			return root.CallAs(t, "", "", method, path, body, "Authorization", "Bearer "+*k.Value)
		}
		bearer("GET", "/login", nil).OK(t, &l)
		if l.Name != operator || *l.APIKey != "k" || !l.Limits {
			t.Errorf("%+v", l)
		}
		bearer("GET", "/repositories/secret", nil).Fails(t, 404, "NOT_FOUND")
		bearer("PUT", "/operators/"+operator+"/api-keys/more", expiry).Fails(t, 403, "DENIED", "API key")
		bearer("POST", "/operators/"+operator+"/password", object{}).Fails(t, 403, "DENIED", "API key")
		call("POST", "/operators/"+operator+"/password", object{"password": "a new pass phrase"}).OK(t, nil)
		call("GET", "/login", nil).Fails(t, 401, "UNAUTHORIZED")
	}
	var k api.APIKey
	root.Call(t, "PUT", "/operators/admin/api-keys/k", expiry).OK(t, &k)
	root.CallAs(t, "", "", "DELETE", "/operators/viewer", nil, "Authorization", "Bearer "+*k.Value).
		Fails(t, 403, "DENIED", "API key")
	root.CallAs(t, "admin", *k.Value, "PUT", "/operators/new", object{"role": "reader"}).Fails(t, 403, "DENIED")
}
