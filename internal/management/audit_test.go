package management_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
)

// auditLog returns the entries of all pages, as lines of their actor, action and object.
func auditLog(t *testing.T, root *fleettest.Instance, query string) (lines []string, pages int) {
	t.Helper()
	for path := "/audit-log?" + query; path != ""; pages++ {
		var page struct {
			Value    []api.AuditEntry
			NextLink string
		}
		root.Call(t, "GET", path, nil).OK(t, &page)
		for _, e := range page.Value {
			lines = append(lines, e.Actor+" "+e.Action+" "+e.Object)
		}
		path = strings.TrimPrefix(page.NextLink, api.Root)
	}
	return lines, pages
}

func TestAuditLogIsListedInPagesNewestFirst(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		var want []string
		for n := range 5 {
			root.Now = start.Add(time.Duration(n) * time.Minute)
			name := fmt.Sprint("m", n)
			root.PutScopeMap(t, name, "repositories/a/content/read")
			want = append([]string{"admin write scope-maps/" + name}, want...)
		}
		first := "first start create operators/admin"
		for _, test := range []struct {
			query string
			want  []string
			pages int
		}{
			{"", append(want[:5:5], first), 1},
			{"n=2", append(want[:5:5], first), 3},
			{"n=2&actor=admin", want, 3},
			{"n=1&actor=admin&since=2030-01-02T03:05:05Z&until=2030-01-02T03:08:05Z", want[1:4], 3},
			{"since=2030-01-02T04:07:05%2B01:00", want[:2], 1},
			{"actor=nobody", nil, 1},
		} {
			got, pages := auditLog(t, root, test.query)
			if diff := cmp.Diff(test.want, got); diff != "" || pages != test.pages {
				t.Errorf("%s: %d pages, %s", test.query, pages, diff)
			}
		}
	})
}

func TestAuditEntryOfAnUpdateNamesTheChanges(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		root.Connect(t, "ship01", "", "a")
		root.PutScopeMap(t, "m", "repositories/a/content/read", "repositories/b/content/read")
		password := root.PutToken(t, "line1", "m")
		root.Call(t, "PUT", "/operators/ann", object{"role": "reader"}).OK(t, nil)
		registry := "/connected-registries/ship01"
		for _, test := range []struct {
			method, path string
			body         object
			want         string
		}{
			{"PATCH", registry, object{"logLevel": "Debug"}, "logLevel: Information -> Debug"},
			{"PATCH", registry, object{"labels": object{"group": "baltic"}, "keepLast": 3},
				"keepLast: none -> 3; labels.group: none -> baltic"},
			{"PATCH", registry, object{"labels": object{"group": ""}}, "labels.group: baltic -> none"},
			{"PATCH", registry, object{"platforms": []string{"linux/arm64"}}, "platforms: +linux/arm64"},
			{"PATCH", registry, object{"logLevel": "Debug"}, ""},
			{"PATCH", "/scope-maps/m", object{"addActions": []string{"repositories/c/content/read"},
				"removeActions": []string{"repositories/b/content/read"}},
				"actions: +repositories/c/content/read -repositories/b/content/read"},
			{"PATCH", "/tokens/line1", object{"status": "disabled"}, "status: enabled -> disabled"},
			{"POST", "/tokens/line1/credentials", object{"passwords": []string{"password2"}},
				"passwords: +password2 of 2030-01-02T03:04:05Z"},
			{"PATCH", "/operators/ann", object{"role": "admin"}, "role: reader -> admin"},
		} {
			root.Call(t, test.method, test.path, test.body).OK(t, nil)
			var page struct{ Value []api.AuditEntry }
			root.Call(t, "GET", "/audit-log?n=1", nil).OK(t, &page)
			if got := page.Value[0].Detail; got != test.want {
				t.Errorf("%s %s %v: the entry says %q, want %q", test.method, test.path, test.body, got, test.want)
			}
		}
		var all struct{ Value []api.AuditEntry }
		root.Call(t, "GET", "/audit-log", nil).OK(t, &all)
		if strings.Contains(fmt.Sprint(all), password) {
			t.Error("the audit log has a password")
		}
	})
}

func TestOnlyOperatorsReadTheAuditLog(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	token := root.PutToken(t, "line1", "m")
	root.CallAs(t, "line1", token, "GET", "/audit-log", nil).
		Fails(t, 403, "DENIED", "a token may not manage the registry")
	root.CallAs(t, "admin", "wrong", "GET", "/audit-log", nil).Fails(t, 401, "UNAUTHORIZED")
	var page struct{ Value []api.AuditEntry }
	root.Call(t, "GET", "/audit-log?n=1", nil).OK(t, &page)
	want := api.AuditEntry{
		ID: page.Value[0].ID, Time: start, Sender: "127.0.0.1", Action: "failed-login", Object: "logins/admin",
	}
	if diff := cmp.Diff([]api.AuditEntry{want}, page.Value); diff != "" {
		t.Error(diff)
	}
	root.Call(t, "GET", "/audit-log?since=yesterday", nil).Fails(t, 422, "INVALID")
}
