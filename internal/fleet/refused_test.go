package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

var unauthorized = wire.Problem{Status: 401, Code: "UNAUTHORIZED",
	Detail: "the sync token or its password is wrong, expired or disabled"}

func TestLastRefusedLoginIsKept(t *testing.T) {
	db := dbtest.SQLite(t)
	root := newInstance(t, db, "")
	root.Connect(t, "ship1", "", "a")
	refused := func(want string) {
		t.Helper()
		for surface, l := range map[string]*api.RefusedLogin{
			"show":        root.Show(t, "ship1").LastRefusedLogin,
			"sync status": root.descendantSync(t, "ship1").LastRefusedLogin,
		} {
			if l == nil || l.Sender != "192.0.2.1" || !l.Time.Equal(root.Now) || !strings.Contains(l.Reason, want) {
				t.Errorf("%s: %+v, want %q", surface, l, want)
			}
		}
	}
	root.Refused("ship1", "192.0.2.1", unauthorized)
	refused("has no password")
	root.SyncPassword(t, "ship1")
	root.Refused("ship1", "192.0.2.1", unauthorized)
	refused("wrong, or has expired")
	root.Refused("nosuch", "192.0.2.1", unauthorized) // no such token, which leaves no trace
	if err := root.Activate(t.Context(), "ship1", "ship1", "v1", from); err != nil {
		t.Fatal(err)
	}
	forged := &wire.RefusedLogin{Reason: "forged"}
	root.receive(t, wire.Status{Name: "ship1", State: "Online", LastRefused: forged})
	refused("wrong, or has expired")
	root.Call(t, "PATCH", "/tokens/ship1", object{"status": "disabled"}).OK(t, nil)
	root.Refused("ship1", "192.0.2.1", unauthorized)
	refused("is disabled")
	root.Refused("ship1", "192.0.2.1", wire.Problem{Status: 409, Detail: gateway.ErrAlreadyActivated.Error()})
	refused("another instance")
	if err := root.SaveSeen(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := fleettest.New(t, db, "").Get(t.Context(), control.Caller{}, "ship1")
	if err != nil || again.LastRefusedLogin == nil ||
		!strings.Contains(again.LastRefusedLogin.Reason, "another instance") {
		t.Errorf("after a restart: %+v %v", again.LastRefusedLogin, err)
	}
}

func TestRefusedLoginIsForwardedToTheRoot(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.Connect(t, "Cabin1", "Ship01", "a")
	p.apply(t)
	if err := p.ship.Activate(t.Context(), "Cabin1", "cabin", "v1", from); err != nil {
		t.Fatal(err)
	}
	p.report(t)
	p.ship.Refused("Cabin1", "192.0.2.7", unauthorized)
	p.report(t)
	if l := p.root.Show(t, "Cabin1").LastRefusedLogin; l == nil || l.Sender != "192.0.2.7" {
		t.Errorf("%+v", l)
	}
}

func TestStrangersRefusedLoginRaisesNoAlarm(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	st := good("ship1")
	st.Watermarks = root.upTo(root.push(t, "a", "v1"))
	root.receive(t, st)
	want := func(when, state string, detail bool) {
		t.Helper()
		r := root.Show(t, "ship1")
		isRefusal := func(d api.StatusDetail) bool { return d.Code == wire.ParentRefuses }
		shown := slices.ContainsFunc(r.StatusDetails, isRefusal)
		if r.Summary.State != state || shown != detail || r.LastRefusedLogin == nil {
			t.Errorf("%s: it is %s, with the details %+v", when, r.Summary.State, r.StatusDetails)
		}
	}
	root.Now = root.Now.Add(5 * time.Second)
	root.Refused("ship1", "203.0.113.7", unauthorized)
	want("between two polls", api.InSync, false)
	root.Now = root.Now.Add(14 * time.Minute)
	want("its link is down for a while", api.InSync, false)
	root.Now = root.Now.Add(2 * time.Minute)
	want("it is silent", api.NeedsYou, true)
	root.receive(t, st)
	want("it is back", api.InSync, false)
	root.Call(t, "PATCH", "/connected-registries/ship1",
		object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	root.Now = root.Now.Add(time.Minute)
	root.receive(t, st)
	root.Now = root.Now.Add(10 * time.Hour)
	root.Refused("ship1", "203.0.113.7", unauthorized)
	want("its window is closed", api.InSync, false)
	root.Call(t, "PATCH", "/tokens/ship1", object{"status": "disabled"}).OK(t, nil)
	want("its token is disabled", api.NeedsYou, true)
}
