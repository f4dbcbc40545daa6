package fleet_test

import (
	"testing"

	"ferry/internal/control"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb/dbtest"
)

func TestOperatorsCanSetTheMaxima(t *testing.T) {
	m, err := control.ParseMaxima("connected-registries=2,levels=2,client-tokens=1,notifications=1," +
		"tokens=4,scope-maps=7,permissions=3,gateway-permissions=9")
	if err != nil {
		t.Fatal(err)
	}
	root := &instance{fleettest.NewWith(t, control.Options{DB: dbtest.SQLite(t), Maxima: &m})}
	put := func(name string, body object) fleettest.Response {
		return root.Call(t, "PUT", "/connected-registries/"+name, body)
	}
	root.PutScopeMap(t, "map1", "repositories/a/content/read")
	root.Call(t, "PUT", "/scope-maps/map2", object{"actions": []string{"repositories/a/content/read",
		"repositories/b/content/read", "repositories/c/content/read", "repositories/d/content/read"}}).
		Fails(t, 400, "INVALID", "at most 3", "--limits")
	root.PutToken(t, "line1", "map1")
	root.PutToken(t, "line2", "map1")
	a := []string{"a"}
	put("ship1", object{"repositories": a, "clientTokens": []string{"line1", "line2"}}).
		Fails(t, 400, "INVALID", "at most 1", "--limits")
	put("ship1", object{"repositories": a, "notifications": []string{"a:*:push", "b:*:push"}}).
		Fails(t, 400, "INVALID", "at most 1", "--limits")
	put("ship1", object{"repositories": a}).OK(t, nil)
	put("cabin1", object{"repositories": a, "parent": "ship1"}).OK(t, nil)
	put("ship2", object{"repositories": a}).Fails(t, 409, "CONFLICT", "2 connected registries", "--limits")
	root.Call(t, "PUT", "/tokens/line3", object{"scopeMap": "map1"}).Fails(t, 409, "CONFLICT", "4 tokens", "--limits")
	root.PutScopeMap(t, "map3", "repositories/a/content/read")
	root.Call(t, "PUT", "/scope-maps/map4", object{"actions": []string{"repositories/a/content/read"}}).
		Fails(t, 409, "CONFLICT", "scope maps", "--limits")
}
