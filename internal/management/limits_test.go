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

func TestFiltersFindNothingOutsideOfTheLimits(t *testing.T) {
	root := limited(t)
	baltic := object{"group": "baltic"}
	root.Call(t, "PUT", "/connected-registries/Deck02",
		object{"parent": "Ship02", "repositories": []string{"team/app"}, "labels": object{"group": "north"}}).OK(t, nil)
	root.Call(t, "PUT", "/connected-registries/Cabin2",
		object{"parent": "Deck02", "repositories": []string{"team/app"}, "labels": baltic}).OK(t, nil)
	for filter, want := range map[string]int{"parent:Deck02": 1, "parent:Ship02": 0, "parent:Ship99": 0} {
		var page struct{ Value []api.ConnectedRegistry }
		as(t, root, "GET", "/connected-registries?filter="+filter, nil).OK(t, &page)
		if len(page.Value) != want {
			t.Errorf("%s finds %d, want %d", filter, len(page.Value), want)
		}
		if root.Call(t, "GET", "/connected-registries?filter=parent:Ship02", nil).OK(t, &page); len(page.Value) != 2 {
			t.Errorf("without limits: %d", len(page.Value))
		}
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

func TestExistingAndMissingNamesOutsideOfLimitsLookAlike(t *testing.T) {
	root := limited(t)
	labels := object{"group": "baltic"}
	ship := func(more object) object {
		o := object{"repositories": []string{"team/app"}, "labels": labels}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	// %s is the name of something that exists, and then of something that does not.
	for _, c := range []struct {
		name, method, path, exists, missing string
		body                                func(name string) object
	}{
		{"a parent", "PUT", "/connected-registries/Ship05", "Ship02", "Ship99",
			func(n string) object { return ship(object{"parent": n}) }},
		{"a parent for a ReadWrite site", "PUT", "/connected-registries/Ship05", "Ship02", "Ship99",
			func(n string) object { return ship(object{"parent": n, "mode": "ReadWrite"}) }},
		{"a sync token", "PUT", "/connected-registries/Ship05", "Ship02", "Ship99",
			func(n string) object { return object{"syncToken": n, "labels": labels} }},
		{"a client token", "PUT", "/connected-registries/Ship05", "line2", "line9",
			func(n string) object { return ship(object{"clientTokens": []string{n}}) }},
		{"a new client token", "PATCH", "/connected-registries/Ship01", "line2", "line9",
			func(n string) object { return object{"addClientTokens": []string{n}} }},
		{"a scope map", "PATCH", "/tokens/line1", "mixed", "missing",
			func(n string) object { return object{"scopeMap": n} }},
		{"a scope map of a new token", "PUT", "/tokens/new", "mixed", "missing",
			func(n string) object { return object{"scopeMap": n} }},
		{"a gateway", "PUT", "/scope-maps/new", "Ship02", "Ship99",
			func(n string) object { return object{"actions": []string{"gateway/" + n + "/message/read"}} }},
		{"a list below a parent", "GET", "/connected-registries?parent=%s", "Ship02", "Ship99", nil},
	} {
		call := func(name string) string {
			var body any
			if c.body != nil {
				body = c.body(name)
			}
			r := as(t, root, c.method, strings.ReplaceAll(c.path, "%s", name), body)
			if r.Status < 400 {
				t.Errorf("%s: %s is allowed: %s", c.name, name, r.Text)
			}
			return strings.ReplaceAll(r.Text, name, "NAME")
		}
		if here, missing := call(c.exists), call(c.missing); here != missing {
			t.Errorf("%s: what exists is answered with\n%s\nand what does not with\n%s", c.name, here, missing)
		}
	}
}

func TestConflictsNameNothingOutsideOfTheLimits(t *testing.T) {
	root := limited(t)
	root.Call(t, "PUT", "/connected-registries/Hidden", object{"repositories": []string{"team/app"},
		"parent": "Ship01", "clientTokens": []string{"line1"}}).OK(t, nil)
	root.PutScopeMap(t, "shared", "repositories/team/app/content/read")
	root.PutToken(t, "both", "shared")
	root.Call(t, "PUT", "/scope-maps/shared", object{"actions": []string{"repositories/team/app/content/read",
		"repositories/team/app/metadata/read"}}).OK(t, nil)
	root.Call(t, "PUT", "/connected-registries/Hidden2", object{"syncToken": "both"}).OK(t, nil)
	root.Call(t, "PUT", "/scope-maps/shared", object{"actions": []string{"repositories/team/app/content/read",
		"repositories/team/app/metadata/read"}}).OK(t, nil) // without the gateway, which it may not see
	if err := root.Activate(t.Context(), "Hidden2", "i", "v1", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path string
		body               any
	}{
		{"a site above another one", "DELETE", "/connected-registries/Ship01", nil},
		{"the scope map of a sync token", "DELETE", "/scope-maps/shared", nil},
		{"a sync token", "DELETE", "/tokens/both", nil},
		{"a sync token for a site", "PUT", "/connected-registries/Ship05",
			object{"syncToken": "both", "labels": object{"group": "baltic"}}},
		{"the name of an operator", "PUT", "/tokens/viewer", object{"scopeMap": "team"}},
		{"a resync", "POST", "/connected-registries/Ship01/resync", nil},
		{"a change of which a site has not heard", "PUT", "/tokens/both", object{"scopeMap": "shared"}},
	} {
		r := as(t, root, c.method, c.path, c.body)
		if strings.Contains(r.Text, "Hidden") || strings.Contains(r.Text, "operator, so") {
			t.Errorf("%s: %d %s", c.name, r.Status, r.Text)
		}
	}
	root.Call(t, "DELETE", "/connected-registries/Ship01", nil).Fails(t, 409, "CONFLICT", "Hidden")
}

func TestKeySeesOnlyItsOwnAuditEntries(t *testing.T) {
	root := limited(t)
	var narrow, other api.APIKey
	put := func(name string, k *api.APIKey) {
		t.Helper()
		as(t, root, "PUT", "/operators/baltic/api-keys/"+name, object{"expiry": start.AddDate(0, 1, 0),
			"repositories": []string{"team/web"}, "labels": []string{"group=baltic"}}).OK(t, k)
	}
	put("narrow", &narrow)
	put("other", &other)
	scopeMap := func(repository string) object {
		return object{"actions": []string{"repositories/" + repository + "/content/read"}}
	}
	as(t, root, "PUT", "/scope-maps/app", scopeMap("team/app")).OK(t, nil)
	with := func(k api.APIKey, method, path string, body any) fleettest.Response {
		return root.CallAs(t, "", "", method, path, body, "Authorization", "Bearer "+*k.Value)
	}
	with(narrow, "PUT", "/scope-maps/web", scopeMap("team/web")).OK(t, nil)
	with(other, "PUT", "/scope-maps/gone", scopeMap("team/web")).OK(t, nil)
	with(other, "DELETE", "/scope-maps/gone", nil).OK(t, nil)
	lines := func(r fleettest.Response) (all []string) {
		t.Helper()
		var page struct{ Value []api.AuditEntry }
		r.OK(t, &page)
		for _, e := range page.Value {
			if e.Actor != "admin" {
				all = append(all, e.Actor+" "+e.Action+" "+e.Object)
			}
		}
		return all
	}
	got := lines(with(narrow, "GET", "/audit-log", nil))
	if want := []string{"baltic/narrow write scope-maps/web"}; !slices.Equal(got, want) {
		t.Errorf("the key sees %q, want %q", got, want)
	}
	got = lines(as(t, root, "GET", "/audit-log?actor=baltic", nil))
	want := []string{"baltic/other delete scope-maps/gone", "baltic/other write scope-maps/gone",
		"baltic/narrow write scope-maps/web", "baltic write scope-maps/app",
		"baltic create operators/baltic/api-keys/other", "baltic create operators/baltic/api-keys/narrow"}
	if !slices.Equal(got, want) {
		t.Errorf("the operator sees %q, want %q", got, want)
	}
	got = lines(root.Call(t, "GET", "/audit-log?actor=baltic/narrow", nil))
	if !slices.Equal(got, want[2:3]) {
		t.Errorf("entries of one key: %q", got)
	}
}
