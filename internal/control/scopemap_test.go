package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ferry/internal/api"

	"github.com/google/go-cmp/cmp"
)

func TestAScopeMapIsCreatedReplacedChangedAndDeleted(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		var m api.ScopeMap
		root.call(t, "PUT", "/scope-maps/pullers", object{"description": "for the line", "actions": []string{
			"repositories/a/b/Content/Read", "repositories/a/b/content/read", "gateway/Ship01/message/read", "repositories/*/metadata/read",
		}}).ok(t, &m)
		if diff := cmp.Diff([]string{"repositories/a/b/content/read", "gateway/Ship01/message/read", "repositories/*/metadata/read"}, m.Actions); diff != "" {
			t.Error(diff)
		}
		if m.Type != "UserDefined" || m.ID != "/scope-maps/pullers" || !m.CreationDate.Equal(start) || m.ProvisioningState != "Succeeded" {
			t.Errorf("%+v", m)
		}
		// What is to go goes first, whatever its case.
		root.call(t, "PATCH", "/scope-maps/pullers", object{
			"removeActions": []string{"gateway/SHIP01/message/read", "repositories/*/metadata/read"},
			"addActions":    []string{"repositories/*/metadata/read", "repositories/x/content/read"},
			"description":   "",
		}).ok(t, &m)
		if diff := cmp.Diff([]string{"repositories/a/b/content/read", "repositories/*/metadata/read", "repositories/x/content/read"}, m.Actions); diff != "" || m.Description != "" {
			t.Errorf("%q %s", m.Description, diff)
		}
		root.now = start.AddDate(1, 0, 0)
		root.call(t, "PUT", "/scope-maps/pullers", object{"actions": []string{"repositories/y/content/read"}}).ok(t, &m)
		if !m.CreationDate.Equal(start) || !slices.Equal(m.Actions, []string{"repositories/y/content/read"}) {
			t.Errorf("%+v", m)
		}
		root.call(t, "DELETE", "/scope-maps/pullers", nil).ok(t, nil)
		root.call(t, "GET", "/scope-maps/pullers", nil).fails(t, 404, "NOT_FOUND", "pullers")
	})
}

func TestTheSystemsScopeMapsAreThereAndStay(t *testing.T) {
	root := newRoot(t)
	var list struct{ Value []api.ScopeMap }
	root.call(t, "GET", "/scope-maps", nil).ok(t, &list)
	var names []string
	for _, m := range list.Value {
		if m.Type != "SystemDefined" {
			t.Errorf("%+v", m)
		}
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"_repositories_admin", "_repositories_pull", "_repositories_push"}, names); diff != "" {
		t.Error(diff)
	}
	root.call(t, "DELETE", "/scope-maps/_repositories_pull", nil).fails(t, 409, "CONFLICT", "system")
	root.call(t, "PATCH", "/scope-maps/_repositories_pull", object{"description": "x"}).fails(t, 409, "CONFLICT", "system")
	root.call(t, "PUT", "/scope-maps/_mine", object{"actions": []string{"repositories/*/content/read"}}).fails(t, 400, "INVALID", "_mine")
}

func TestAScopeMapThatIsWrongIsRefused(t *testing.T) {
	root := newRoot(t)
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
		{"an unknown action", "/scope-maps/m", object{"actions": []string{"repositories/a/content/eat"}}, []string{"content/eat", "metadata/write"}},
		{"a star inside", "/scope-maps/m", object{"actions": []string{"repositories/a/*/b/content/read"}}, []string{"star"}},
		{"an unknown kind", "/scope-maps/m", object{"actions": []string{"registry/a/content/read"}}, []string{"repositories/"}},
		{"a gateway's action on a repository", "/scope-maps/m", object{"actions": []string{"repositories/a/config/read"}}, []string{"config/read"}},
		{"a name that no repository has", "/scope-maps/m", object{"actions": []string{"repositories/A/content/read"}}, []string{"invalid repository name"}},
		{"a long description", "/scope-maps/m", object{"description": strings.Repeat("ü", 257), "actions": []string{"repositories/a/content/read"}}, []string{"256"}},
		{"too many permissions", "/scope-maps/m", object{"actions": many}, []string{"500", "team/*"}},
		{"a name that is a path", "/scope-maps/a%2Fb", object{"actions": []string{"repositories/a/content/read"}}, []string{"a/b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := root.call(t, "PUT", test.path, test.body)
			r.fails(t, r.status, "INVALID", test.words...)
			if r.status != 400 && r.status != 422 {
				t.Errorf("status %d", r.status)
			}
		})
	}
	root.call(t, "PUT", "/scope-maps/m", object{"description": strings.Repeat("ü", 256), "actions": many[:500]}).ok(t, nil)
	root.call(t, "PATCH", "/scope-maps/m", object{"addActions": many[500:]}).fails(t, 400, "INVALID", "500")
}

func TestDeletingAScopeMapLeavesItsTokensWithoutRights(t *testing.T) {
	root := newRoot(t)
	root.scopeMap(t, "m", "repositories/a/content/read")
	password := root.token(t, "line1", "m")
	root.call(t, "DELETE", "/scope-maps/m", nil).ok(t, nil)
	p, err := root.control.Directory().Authenticate(t.Context(), "line1", password)
	if err != nil {
		t.Fatal(err)
	}
	if p.Permissions.AllowsRepository("a", "content/read") {
		t.Error("the token may still read")
	}
	var token api.Token
	root.call(t, "GET", "/tokens/line1", nil).ok(t, &token)
	if token.ScopeMapID != "" {
		t.Errorf("scope map %q", token.ScopeMapID)
	}
}

func TestAnEditOfWhatChangedMeanwhileIsRefused(t *testing.T) {
	root := newRoot(t)
	body := object{"actions": []string{"repositories/a/content/read"}}
	tag := root.call(t, "PUT", "/scope-maps/m", body, "If-None-Match", "*").ok(t, nil).header.Get("ETag")
	root.call(t, "PUT", "/scope-maps/m", body, "If-None-Match", "*").fails(t, 412, "PRECONDITION_FAILED", "exists already")
	if got := root.call(t, "GET", "/scope-maps/m", nil).header.Get("ETag"); got != tag || tag == "" {
		t.Errorf("ETag %q, want %q", got, tag)
	}
	next := root.call(t, "PATCH", "/scope-maps/m", object{"description": "1"}, "If-Match", tag).ok(t, nil).header.Get("ETag")
	root.call(t, "PATCH", "/scope-maps/m", object{"description": "2"}, "If-Match", tag).fails(t, 412, "PRECONDITION_FAILED", "read it again")
	root.call(t, "DELETE", "/scope-maps/m", nil, "If-Match", tag).fails(t, 412, "PRECONDITION_FAILED")
	root.call(t, "PUT", "/scope-maps/new", body, "If-Match", "*").fails(t, 412, "PRECONDITION_FAILED")
	root.call(t, "DELETE", "/scope-maps/m", nil, "If-Match", `"0", `+next).ok(t, nil)
}
