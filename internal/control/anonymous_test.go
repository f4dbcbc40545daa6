package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/fleet/fleettest"
)

// opens reports whether a client without credentials may read content of a repository.
func opens(i *fleettest.Instance, sender, repository string) bool {
	return i.Control.Anonymous(netip.MustParseAddr(sender)).AllowsRepository(repository, auth.ContentRead)
}

func TestScopeMapsAllowAnonymousPullsFromTheirNetworks(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		put := func(name, repository string, networks ...string) {
			t.Helper()
			root.Call(t, "PUT", "/scope-maps/"+name, object{
				"actions": []string{
					"repositories/" + repository + "/content/read", "repositories/" + repository + "/content/write",
					"gateway/ship1/message/read",
				},
				"anonymousNetworks": networks,
			}).OK(t, nil)
		}
		put("a", "a", "10.0.0.0/8", "10.0.0.0/8", "2001:db8::/32")
		put("b", "b", "10.1.0.0/16")
		put("closed", "c")
		for _, c := range []struct {
			sender string
			may    string
		}{{"10.1.2.3", "ab"}, {"10.2.2.3", "a"}, {"2001:db8::1", "a"}, {"11.0.0.1", ""}, {"::1", ""}} {
			for _, repository := range []string{"a", "b", "c"} {
				if got := opens(root, c.sender, repository); got != strings.Contains(c.may, repository) {
					t.Errorf("%s of %s: %t", repository, c.sender, got)
				}
			}
		}
		rights := root.Control.Anonymous(netip.MustParseAddr("10.1.2.3"))
		if rights.AllowsRepository("a", auth.ContentWrite) || rights.AllowsAnyGateway(auth.MessageRead) ||
			rights.AllowsRepository("a", auth.MetadataRead) {
			t.Errorf("too many rights: %+v", rights)
		}
		var m api.ScopeMap
		root.Call(t, "PATCH", "/scope-maps/a", object{"addActions": []string{"repositories/d/content/read"}}).OK(t, &m)
		if strings.Join(m.AnonymousNetworks, " ") != "10.0.0.0/8 2001:db8::/32" || !opens(root, "10.2.2.3", "d") {
			t.Errorf("after a change of its actions: %+v", m)
		}
		root.Call(t, "PATCH", "/scope-maps/a", object{"anonymousNetworks": []string{"192.0.2.7"}}).OK(t, &m)
		if opens(root, "10.2.2.3", "a") || !opens(root, "192.0.2.7", "a") {
			t.Errorf("after a change of its networks: %+v", m)
		}
		root.Call(t, "PATCH", "/scope-maps/a", object{"anonymousNetworks": []string{}}).OK(t, &m)
		root.Call(t, "DELETE", "/scope-maps/b", nil).OK(t, nil)
		if opens(root, "192.0.2.7", "a") || opens(root, "10.1.2.3", "b") {
			t.Errorf("after the networks were removed: %+v", m)
		}
	})
}

func TestChangesOfAnonymousPullsAreAudited(t *testing.T) {
	root := fleettest.NewRoot(t)
	body := object{"actions": []string{"repositories/a/content/read"}, "anonymousNetworks": []string{"10.0.0.0/8"}}
	root.Call(t, "PUT", "/scope-maps/a", body).OK(t, nil)
	root.Call(t, "PUT", "/scope-maps/a", body).OK(t, nil)
	root.Call(t, "PATCH", "/scope-maps/a", object{"anonymousNetworks": []string{}}).OK(t, nil)
	var log struct{ Value []api.AuditEntry }
	root.Call(t, "GET", "/audit-log", nil).OK(t, &log)
	var got []string
	for _, e := range log.Value {
		if e.Action == "allow-anonymous" {
			got = append(got, e.Actor+" "+e.Object+" "+e.Detail)
		}
	}
	want := "[admin scope-maps/a from nowhere admin scope-maps/a from 10.0.0.0/8]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestAnonymousNetworksAreChecked(t *testing.T) {
	root := fleettest.NewRoot(t)
	read := []string{"repositories/a/content/read"}
	for name, body := range map[string]object{
		"10.1.2.3/8": {"actions": read, "anonymousNetworks": []string{"10.1.2.3/8"}},
		"office":     {"actions": read, "anonymousNetworks": []string{"office"}},
		"allows to read no repository": {"actions": []string{"repositories/a/content/write"},
			"anonymousNetworks": []string{"10.0.0.0/8"}},
	} {
		root.Call(t, "PUT", "/scope-maps/m", body).Fails(t, 400, "INVALID", name)
	}
	root.Call(t, "PUT", "/scope-maps/m", object{"actions": read, "anonymousNetworks": make([]string, 33)}).Fails(t, 422,
		"INVALID")
	networks := object{"anonymousNetworks": []string{"10.0.0.0/8"}}
	root.Call(t, "PATCH", "/scope-maps/_repositories_pull", networks).Fails(t, 409, "CONFLICT", "defined by the system")
	for i := range 101 {
		r := root.Call(t, "PUT", fmt.Sprintf("/scope-maps/m%03d", i),
			object{"actions": read, "anonymousNetworks": []string{"10.0.0.0/8"}})
		if i < 100 {
			r.OK(t, nil)
		} else {
			r.Fails(t, 409, "CONFLICT", "101 scope maps allow anonymous pulls: at most 100 may")
		}
	}
	root.Call(t, "PATCH", "/scope-maps/m007", object{"anonymousNetworks": []string{"10.1.0.0/16"}}).OK(t, nil)
}
