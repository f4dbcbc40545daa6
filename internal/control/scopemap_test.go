package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"

	"github.com/google/go-cmp/cmp"
)

func TestScopeMapLifecycle(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		var m api.ScopeMap
		root.Call(t, "PUT", "/scope-maps/pullers", object{"description": "for the line", "actions": []string{
			"repositories/a/b/Content/Read", "repositories/a/b/content/read", "gateway/Ship01/message/read",
			"repositories/*/metadata/read",
		}}).OK(t, &m)
		if diff := cmp.Diff([]string{"repositories/a/b/content/read", "gateway/Ship01/message/read",
			"repositories/*/metadata/read"}, m.Actions); diff != "" {
			t.Error(diff)
		}
		if m.Type != "UserDefined" || m.ID != "/scope-maps/pullers" || !m.CreationDate.Equal(start) ||
			m.ProvisioningState != "Succeeded" {
			t.Errorf("%+v", m)
		}
		// Actions are removed before others are added, in any case.
		root.Call(t, "PATCH", "/scope-maps/pullers", object{
			"removeActions": []string{"gateway/SHIP01/message/read", "repositories/*/metadata/read"},
			"addActions":    []string{"repositories/*/metadata/read", "repositories/x/content/read"},
			"description":   "",
		}).OK(t, &m)
		if diff := cmp.Diff([]string{"repositories/a/b/content/read", "repositories/*/metadata/read",
			"repositories/x/content/read"}, m.Actions); diff != "" || m.Description != "" {
			t.Errorf("%q %s", m.Description, diff)
		}
		root.Now = start.AddDate(1, 0, 0)
		root.Call(t, "PUT", "/scope-maps/pullers", object{"actions": []string{"repositories/y/content/read"}}).OK(t, &m)
		if !m.CreationDate.Equal(start) || !slices.Equal(m.Actions, []string{"repositories/y/content/read"}) {
			t.Errorf("%+v", m)
		}
		root.Call(t, "DELETE", "/scope-maps/pullers", nil).OK(t, nil)
		root.Call(t, "GET", "/scope-maps/pullers", nil).Fails(t, 404, "NOT_FOUND", "pullers")
	})
}

func TestActionsThatAnExclusionTakesAwayAreWarnedOf(t *testing.T) {
	root := fleettest.NewRoot(t)
	warnings := func(method string, body any) string {
		t.Helper()
		var m api.ScopeMap
		root.Call(t, method, "/scope-maps/pullers", body).OK(t, &m)
		var all []string
		for _, w := range m.Warnings {
			all = append(all, w.Message+"; "+w.Hint)
		}
		return strings.Join(all, "\n")
	}
	const excluded = "the scope map 'pullers' excludes 'a/*', so that repositories/a/b/content/read allows nothing; " +
		"ferry scope-map update -n pullers --remove-repository '!a/*' content/read"
	whole := []string{"repositories/*/content/read", "repositories/!a/*/content/read"}
	for _, test := range []struct {
		method string
		body   object
		want   string
	}{
		{"PUT", object{"actions": whole}, ""},
		{"PATCH", object{"addActions": []string{"repositories/a/b/content/read"}}, excluded},
		{"PATCH", object{"addActions": []string{"repositories/a/b/metadata/read", "repositories/b/content/read"}}, ""},
		{"PATCH", object{"removeActions": []string{"repositories/!a/*/content/read"},
			"addActions": []string{"repositories/a/b/content/read"}}, ""},
		{"PUT", object{"actions": append(whole, "repositories/a/b/content/read")}, excluded},
	} {
		if got := warnings(test.method, test.body); got != test.want {
			t.Errorf("%s %v: %q, want %q", test.method, test.body, got, test.want)
		}
	}
}

func TestSystemScopeMapsCannotBeChanged(t *testing.T) {
	root := fleettest.NewRoot(t)
	var list struct{ Value []api.ScopeMap }
	root.Call(t, "GET", "/scope-maps", nil).OK(t, &list)
	var names []string
	for _, m := range list.Value {
		if m.Type != "SystemDefined" {
			t.Errorf("%+v", m)
		}
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"_repositories_admin", "_repositories_pull", "_repositories_push"},
		names); diff != "" {
		t.Error(diff)
	}
	root.Call(t, "DELETE", "/scope-maps/_repositories_pull", nil).Fails(t, 409, "CONFLICT", "system")
	root.Call(t, "PATCH", "/scope-maps/_repositories_pull", object{"description": "x"}).Fails(t, 409, "CONFLICT",
		"system")
	root.Call(t, "PUT", "/scope-maps/_mine", object{"actions": []string{"repositories/*/content/read"}}).Fails(t, 400,
		"INVALID", "_mine")
}

func TestInvalidScopeMapIsRefused(t *testing.T) {
	root := fleettest.NewRoot(t)
	var many []string
	for n := range 501 {
		many = append(many, fmt.Sprintf("repositories/r%d/content/read", n))
	}
	for _, test := range []struct {
		name, path string
		body       any
		words      []string
	}{
		{"no actions", "/scope-maps/m", object{"actions": []string{}}, []string{"actions"}},
		{"an unknown action", "/scope-maps/m", object{"actions": []string{"repositories/a/content/eat"}},
			[]string{"content/eat", "metadata/write"}},
		{"a star inside", "/scope-maps/m", object{"actions": []string{"repositories/a/*/b/content/read"}},
			[]string{"star"}},
		{"an unknown kind", "/scope-maps/m", object{"actions": []string{"registry/a/content/read"}},
			[]string{"repositories/"}},
		{"a gateway's action on a repository", "/scope-maps/m",
			object{"actions": []string{"repositories/a/config/read"}}, []string{"config/read"}},
		{"a blank name", "/scope-maps/m", object{"actions": []string{"repositories/ /content/read"}},
			[]string{`"the name of a repository is blank: \" \"`}},
		{"a name that no repository has", "/scope-maps/m", object{"actions": []string{"repositories/A/content/read"}},
			[]string{"invalid repository name"}},
		{"a long description", "/scope-maps/m",
			object{"description": strings.Repeat("ü", 257), "actions": []string{"repositories/a/content/read"}},
			[]string{"256"}},
		{"too many permissions", "/scope-maps/m", object{"actions": many}, []string{"500", "team/*"}},
		{"a name that is a path", "/scope-maps/a%2Fb", object{"actions": []string{"repositories/a/content/read"}},
			[]string{"a/b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := root.Call(t, "PUT", test.path, test.body)
			r.Fails(t, r.Status, "INVALID", test.words...)
			if r.Status != 400 && r.Status != 422 {
				t.Errorf("status %d", r.Status)
			}
		})
	}
	root.Call(t, "PUT", "/scope-maps/m", object{"description": strings.Repeat("ü", 256), "actions": many[:500]}).OK(t,
		nil)
	root.Call(t, "PATCH", "/scope-maps/m", object{"addActions": many[500:]}).Fails(t, 400, "INVALID", "500")
}

func TestTokensOfADeletedScopeMapHaveNoRights(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	password := root.PutToken(t, "line1", "m")
	root.Call(t, "DELETE", "/scope-maps/m", nil).OK(t, nil)
	p, err := root.Control.Directory().Authenticate(t.Context(), "line1", password)
	if err != nil {
		t.Fatal(err)
	}
	if p.Permissions.AllowsRepository("a", "content/read") {
		t.Error("the token may still read")
	}
	var token api.Token
	root.Call(t, "GET", "/tokens/line1", nil).OK(t, &token)
	if token.ScopeMapID != nil {
		t.Errorf("scope map %q", *token.ScopeMapID)
	}
}

func TestEditOfAChangedResourceIsRefused(t *testing.T) {
	root := fleettest.NewRoot(t)
	body := object{"actions": []string{"repositories/a/content/read"}}
	tag := root.Call(t, "PUT", "/scope-maps/m", body, "If-None-Match", "*").OK(t, nil).Header.Get("ETag")
	root.Call(t, "PUT", "/scope-maps/m", body, "If-None-Match", "*").Fails(t, 412, "PRECONDITION_FAILED",
		"exists already")
	if got := root.Call(t, "GET", "/scope-maps/m", nil).Header.Get("ETag"); got != tag || tag == "" {
		t.Errorf("ETag %q, want %q", got, tag)
	}
	next := root.Call(t, "PATCH", "/scope-maps/m", object{"description": "1"}, "If-Match", tag).OK(t,
		nil).Header.Get("ETag")
	root.Call(t, "PATCH", "/scope-maps/m", object{"description": "2"}, "If-Match", tag).Fails(t, 412,
		"PRECONDITION_FAILED", "read it again")
	root.Call(t, "DELETE", "/scope-maps/m", nil, "If-Match", tag).Fails(t, 412, "PRECONDITION_FAILED")
	root.Call(t, "PUT", "/scope-maps/new", body, "If-Match", "*").Fails(t, 412, "PRECONDITION_FAILED")
	root.Call(t, "DELETE", "/scope-maps/m", nil, "If-Match", `"0", `+next).OK(t, nil)
}
