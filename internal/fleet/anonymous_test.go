package fleet_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

func TestAnonymousPullsFollowClientTokensOfARegistry(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	root, ship := p.root, p.ship
	mayPull := func(i *instance, repository string) bool {
		return i.Control.Anonymous(netip.MustParseAddr("10.1.2.3")).AllowsRepository(repository, auth.ContentRead)
	}
	for _, name := range []string{"own", "below", "other"} {
		root.Call(t, "PUT", "/scope-maps/"+name, object{
			"actions":           []string{"repositories/" + name + "/content/read"},
			"anonymousNetworks": []string{"10.0.0.0/8"},
		}).OK(t, nil)
		root.PutToken(t, name, name)
	}
	root.Connect(t, "Cabin1", "Ship01", "a")
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"addClientTokens": []string{"own"}}).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/Cabin1", object{"addClientTokens": []string{"below"}}).OK(t, nil)
	p.apply(t)
	if !mayPull(ship, "own") || mayPull(ship, "below") || mayPull(ship, "other") || !mayPull(root, "other") {
		t.Error("a connected registry applies the scope maps of its own client tokens only")
	}
	d, err := ship.Desired(t.Context(), "Cabin1")
	if err != nil || len(d.ScopeMaps) == 0 {
		t.Fatal(d, err)
	}
	for _, m := range d.ScopeMaps {
		if m.Name == "below" && len(m.AnonymousNetworks) != 1 {
			t.Errorf("the registry below gets %+v", m)
		}
	}
	root.Call(t, "PATCH", "/tokens/own", object{"status": "disabled"}).OK(t, nil)
	p.apply(t)
	if !mayPull(ship, "own") {
		t.Error("the status of the token matters")
	}
	root.Call(t, "PATCH", "/scope-maps/own", object{"anonymousNetworks": []string{}}).OK(t, nil)
	if p.apply(t); mayPull(ship, "own") {
		t.Error("it did not hear that the network was removed")
	}
	root.Call(t, "PATCH", "/scope-maps/own", object{"anonymousNetworks": []string{"10.0.0.0/8"}}).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"removeClientTokens": []string{"own"}}).OK(t, nil)
	if p.apply(t); mayPull(ship, "own") {
		t.Error("it did not hear that the token was removed")
	}
}

// Without networks, the desired state is that of earlier builds, so an update changes no version.
func TestScopeMapWithoutNetworksIsSentAsBefore(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.PutScopeMap(t, "m", "repositories/a/content/read")
	p.root.PutToken(t, "line1", "m")
	p.root.Call(t, "PATCH", "/connected-registries/Ship01", object{"addClientTokens": []string{"line1"}}).OK(t, nil)
	d, err := p.root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range d.ScopeMaps {
		if text := jsonOf(t, m); m.Name == "m" && text != `{"name":"m","actions":["repositories/a/content/read"]}` {
			t.Errorf("sent as %s", text)
		}
	}
}

func jsonOf(t *testing.T, m wire.ScopeMap) string {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
