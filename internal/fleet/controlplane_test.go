package fleet_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/wire"
)

func TestOneInstanceHoldsAConnectedRegistry(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.Connect(t, "Ship01", "", "a")
		root.Connect(t, "Cabin1", "Ship01", "a")
		for _, step := range []struct {
			do   func() error
			want error
		}{
			{func() error { return root.Report(t.Context(), "Ship01", "one", nil) }, gateway.ErrNotActivated},
			{func() error { return root.Report(t.Context(), "Ship01", "", nil) }, gateway.ErrNotActivated},
			{func() error { return root.Activate(t.Context(), "ship01", "one", "v1", from) }, nil},
			{func() error { return root.Activate(t.Context(), "Ship01", "one", "v1", from) }, nil},
			{func() error { return root.Activate(t.Context(), "Ship01", "two", "v1", from) },
				gateway.ErrAlreadyActivated},
			{func() error { return root.Report(t.Context(), "Ship01", "one", nil) }, nil},
			{func() error { return root.Report(t.Context(), "Ship01", "two", nil) }, gateway.ErrNotActivated},
			{func() error { return root.Activate(t.Context(), "nosuch", "one", "v1", from) }, gateway.ErrUnknown},
			// Only its own parent can activate it.
			{func() error { return root.Activate(t.Context(), "Cabin1", "one", "v1", from) }, gateway.ErrUnknown},
			{func() error { _, err := root.Desired(t.Context(), "Cabin1"); return err }, gateway.ErrUnknown},
			{func() error { _, err := root.Desired(t.Context(), "nosuch"); return err }, gateway.ErrUnknown},
		} {
			if err := step.do(); !errors.Is(err, step.want) {
				t.Fatalf("%v, want %v", err, step.want)
			}
		}
		if r := root.Show(t, "Ship01"); r.Activation.Status != "Active" || r.ConnectionState != "Online" ||
			*r.Version != "v1" {
			t.Errorf("%+v", r)
		}
		root.Call(t, "POST", "/connected-registries/Ship01/deactivate", nil).OK(t, nil)
		if r := root.Show(t, "Ship01"); r.Activation.Status != "Inactive" || r.ConnectionState != "Offline" {
			t.Errorf("%+v", r)
		}
		if err := root.Report(t.Context(), "Ship01", "one", nil); !errors.Is(err, gateway.ErrNotActivated) {
			t.Error(err)
		}
		if err := root.Activate(t.Context(), "Ship01", "two", "v2", from); err != nil {
			t.Error(err)
		}
	})
}

func TestNamesInAnyCaseShareOneDesiredState(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.Connect(t, "Ship01", "", "a")
		want, err := root.Desired(t.Context(), "Ship01")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ship01", "SHIP01", "sHiP01"} {
			if got, err := root.Desired(t.Context(), name); err != nil || got != want {
				t.Errorf("%s has a desired state of its own, %v", name, err)
			}
		}
	})
}

func TestDesiredStateContainsTheSubtree(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutScopeMap(t, "unused", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	root.PutToken(t, "line2", "m")
	root.PutToken(t, "stranger", "m")
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Cabin1", "Ship01", "b")
	root.Connect(t, "Other1", "", "c")
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"addClientTokens": []string{"line1"}}).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/Cabin1", object{"addClientTokens": []string{"line2", "line1"}}).OK(t,
		nil)
	root.SyncPassword(t, "Ship01")
	secret := root.SyncPassword(t, "Cabin1")
	d, err := root.Desired(t.Context(), "ship01")
	if err != nil {
		t.Fatal(err)
	}
	var tokens, maps, below []string
	for _, x := range d.Tokens {
		tokens = append(tokens, x.Name)
	}
	for _, x := range d.ScopeMaps {
		maps = append(maps, x.Name)
	}
	for _, x := range d.ConnectedRegistries {
		below = append(below, x.Name)
	}
	if diff := cmp.Diff([][]string{{"Cabin1", "line1", "line2"}, {"Cabin1", "Ship01", "m"}, {"Cabin1"}},
		[][]string{tokens, maps, below}); diff != "" {
		t.Error(diff)
	}
	want := []string{"repositories/a/content/read", "repositories/a/metadata/read", "repositories/b/content/read",
		"repositories/b/metadata/read"}
	if diff := cmp.Diff(want, d.Self.Permissions); diff != "" || d.Self.Name != "Ship01" {
		t.Errorf("%s: %s", d.Self.Name, diff)
	}
	text, err := json.Marshal(d)
	if err != nil || contains(string(text), secret) {
		t.Errorf("%v, the desired state contains a password", err)
	}

	// The version changes with the subtree, and with nothing else.
	same := func(want bool, change string) {
		t.Helper()
		next, err := root.Desired(t.Context(), "Ship01")
		if err != nil {
			t.Fatal(err)
		}
		if (next.Version == d.Version) != want {
			t.Errorf("%s: the version is the same: %t", change, !want)
		}
		d = next
	}
	root.Call(t, "PATCH", "/connected-registries/Other1", object{"gcEnabled": false}).OK(t, nil)
	root.Call(t, "PATCH", "/tokens/stranger", object{"status": "disabled"}).OK(t, nil)
	same(true, "what is not below it")
	if err := root.Activate(t.Context(), "Ship01", "one", "v1", from); err != nil {
		t.Fatal(err)
	}
	same(true, "an activation")
	root.Call(t, "PATCH", "/scope-maps/m", object{"addActions": []string{"repositories/z/content/read"}}).OK(t, nil)
	same(false, "a client token's scope map")
	root.Call(t, "PATCH", "/tokens/line2", object{"status": "disabled"}).OK(t, nil)
	same(false, "a token of a descendant")
	root.Call(t, "PATCH", "/connected-registries/Cabin1", object{"syncMessageTtl": "P5D"}).OK(t, nil)
	same(false, "a descendant")
	root.Call(t, "POST", "/connected-registries/Cabin1/deactivate", nil).OK(t, nil)
	same(false, "a deactivation")
}

func TestWriteWakesOnlyAffectedChildren(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Cabin1", "Ship01", "a")
	root.Connect(t, "Other1", "", "a")
	for _, change := range []struct {
		method, path string
		body         object
		want         bool
	}{
		{"PATCH", "/connected-registries/Ship01", object{"gcEnabled": false}, true},
		{"PATCH", "/scope-maps/Ship01", object{"addActions": []string{"repositories/b/content/read"}}, true},
		{"PATCH", "/connected-registries/Cabin1", object{"gcEnabled": false}, true},
		{"POST", "/connected-registries/Cabin1/deactivate", nil, true},
		{"PATCH", "/connected-registries/Other1", object{"gcEnabled": false}, false},
		{"PATCH", "/connected-registries/Ship01", object{"syncSchedule": "sometimes"}, false}, // it is refused
	} {
		changed := root.Changed("ship01")
		if r := root.Call(t, change.method, change.path, change.body); change.want && r.Status >= 300 {
			t.Fatal(r.Text)
		}
		woken := false
		select {
		case <-changed:
			woken = true
		default:
		}
		if woken != change.want {
			t.Errorf("%s %s %v: Ship01 is woken: %t, want %t", change.method, change.path, change.body, woken,
				change.want)
		}
	}
}

// A pair is a root and a child that has received its desired state.
type pair struct {
	root, ship *instance
}

// from is the address from which instances are activated.
const from = "192.0.2.7"

func newPair(t *testing.T, root *instance, ship *metadb.DB) pair {
	t.Helper()
	root.Call(t, "PUT", "/connected-registries/Ship01", object{"repositories": []string{"a"}}).OK(t, nil)
	root.SyncPassword(t, "Ship01")
	p := pair{root, newInstance(t, ship, "Ship01")}
	if err := root.Activate(t.Context(), "Ship01", p.ship.Control.InstanceID(), "v1", from); err != nil {
		t.Fatal(err)
	}
	p.apply(t)
	return p
}

// apply applies the desired state at the child.
func (p pair) apply(t *testing.T) {
	t.Helper()
	d, err := p.root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d) // its wire form
	if err != nil {
		t.Fatal(err)
	}
	var wire wire.Desired
	if err := json.Unmarshal(text, &wire); err != nil {
		t.Fatal(err)
	}
	if err := p.ship.Apply(t.Context(), &wire); err != nil {
		t.Fatal(err)
	}
}

// report sends the child's report to the root.
func (p pair) report(t *testing.T) {
	t.Helper()
	below, err := p.ship.Descendants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &wire.Report{Self: wire.Status{Name: "Ship01", State: "Online", At: p.ship.Now}, Descendants: below}
	if err := p.root.Report(t.Context(), "Ship01", p.ship.Control.InstanceID(), r); err != nil {
		t.Fatal(err)
	}
}

func TestTokenFromParentCannotShadowAnOperator(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	d, err := p.root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	const password = "of the parent's choice"
	d.Version = "hostile"
	d.ScopeMaps = append(d.ScopeMaps, wire.ScopeMap{Name: "m", Actions: []string{"repositories/*/content/read"}})
	d.Tokens = append(d.Tokens, wire.Token{
		Name: "admin", ScopeMap: "m", Status: api.Enabled,
		Passwords: []wire.Password{{Name: "password1", Hash: auth.HashPassword(password)}},
	})
	d.Self.ClientTokens = append(d.Self.ClientTokens, "admin")
	if err := p.ship.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	principal, err := p.ship.Control.Directory().Authenticate(t.Context(), "admin", p.ship.Password)
	if err != nil || !principal.Admin {
		t.Errorf("the operator: %+v, %v", principal, err)
	}
	if p.ship.MayLogIn(t, "admin", password) {
		t.Error("the parent's token is accepted with the operator's name")
	}
	generation := auth.Generation(auth.HashPassword(password))
	directory := p.ship.Control.Directory()
	if principal, err := directory.Lookup(t.Context(), auth.KindToken, "admin", generation); err == nil {
		t.Errorf("the parent's token is looked up: %+v", principal)
	}
}

func TestClientTokensComeFromTheLastDesiredState(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		p := newPair(t, newRoot(t), db)
		root, ship := p.root, p.ship
		root.PutScopeMap(t, "m", "repositories/a/content/read", "gateway/cabin1/message/read")
		client, stranger := root.PutToken(t, "line1", "m"), root.PutToken(t, "line2", "m")
		root.Connect(t, "Cabin1", "Ship01", "a")
		sync, own := root.SyncPassword(t, "Cabin1"), root.SyncPassword(t, "Ship01")
		root.Call(t, "PATCH", "/connected-registries/Ship01", object{"addClientTokens": []string{"line1"}}).OK(t, nil)
		if ship.MayLogIn(t, "line1", client) {
			t.Error("it knows a token before it has a desired state")
		}
		p.apply(t)
		if !ship.MayLogIn(t, "line1", client) || !ship.MayLogIn(t, "Cabin1", sync) ||
			!ship.MayLogIn(t, "admin", ship.Password) {
			t.Error("a client token, a child's sync token or its operator may not log in")
		}
		if ship.MayLogIn(t, "line2", stranger) || ship.MayLogIn(t, "Ship01", own) ||
			ship.MayLogIn(t, "admin", root.Password) {
			t.Error("another token, its own sync token or the root's operator may log in")
		}
		principal, err := ship.Control.Directory().Lookup(t.Context(), auth.KindToken, "line1",
			auth.Generation(auth.HashPassword(client)))
		if err != nil || !principal.Permissions.AllowsRepository("a", auth.ContentRead) ||
			principal.Permissions.AllowsGateway("Cabin1", auth.MessageRead) {
			t.Errorf("%v, %+v", err, principal)
		}
		principal, err = ship.Control.Directory().Lookup(t.Context(), auth.KindToken, "Cabin1",
			auth.Generation(auth.HashPassword(sync)))
		if err != nil || !principal.Permissions.AllowsGateway("Cabin1", auth.MessageRead) {
			t.Errorf("%v, %+v", err, principal)
		}

		// A restart with the link down must change nothing.
		again := newInstance(t, db, "ship01")
		if !again.MayLogIn(t, "line1", client) || again.Control.InstanceID() != ship.Control.InstanceID() {
			t.Error("it forgot its tokens or its name")
		}
		root.Call(t, "PATCH", "/tokens/line1", object{"status": "disabled"}).OK(t, nil)
		root.Call(t, "DELETE", "/connected-registries/Cabin1?cleanup=true", nil).OK(t, nil)
		p.apply(t)
		if ship.MayLogIn(t, "line1", client) || ship.MayLogIn(t, "Cabin1", sync) {
			t.Error("a token that was disabled or deleted works")
		}
		own2, err := ship.Own(t.Context())
		if err != nil || own2.Name != "Ship01" || !slices.Contains(own2.Permissions, "repositories/a/content/read") ||
			own2.Mode != "ReadOnly" {
			t.Errorf("%v, %+v", err, own2)
		}
	})
}

func TestReportsReachTheRoot(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	root, ship := p.root, p.ship
	root.Connect(t, "Cabin1", "Ship01", "a")
	p.apply(t)
	if err := ship.Activate(t.Context(), "Cabin1", "first", "v7", from); err != nil {
		t.Fatal(err)
	}
	report := &wire.Report{Self: wire.Status{Name: "Cabin1", State: "Syncing", SyncState: "Syncing",
		LoginServer: "10.0.0.1:5000", At: start}}
	if err := ship.Report(t.Context(), "Cabin1", "first", report); err != nil {
		t.Fatal(err)
	}
	p.report(t)
	if r := root.Show(t, "Cabin1"); r.Activation.Status != "Active" || r.ConnectionState != "Syncing" ||
		r.LoginServer.Host != "10.0.0.1:5000" || r.RegistrySyncResult.SyncState != "Syncing" {
		t.Errorf("%+v", r)
	}

	// A deactivation at the root ends the activation at the level between, and an old report does
	// not bring it back.
	root.Call(t, "POST", "/connected-registries/Cabin1/deactivate", nil).OK(t, nil)
	p.report(t)
	if r := root.Show(t, "Cabin1"); r.Activation.Status != "Inactive" {
		t.Error("an old report activated it again")
	}
	if err := ship.Activate(t.Context(), "Cabin1", "second", "v8", from); !errors.Is(err, gateway.ErrAlreadyActivated) {
		t.Errorf("before the level between knows: %v", err)
	}
	p.apply(t)
	if err := ship.Report(t.Context(), "Cabin1", "first", nil); !errors.Is(err, gateway.ErrNotActivated) {
		t.Error(err)
	}
	if err := ship.Activate(t.Context(), "Cabin1", "second", "v8", from); err != nil {
		t.Fatal(err)
	}
	p.report(t)
	if r := root.Show(t, "Cabin1"); r.Activation.Status != "Active" || *r.Version != "v8" {
		t.Errorf("%+v", r)
	}
	// Another change at the root keeps the activation.
	root.Call(t, "PATCH", "/connected-registries/Cabin1", object{"syncMessageTtl": "P5D"}).OK(t, nil)
	p.apply(t)
	if err := ship.Report(t.Context(), "Cabin1", "second", nil); err != nil {
		t.Error(err)
	}
	// A level between that lost its data learns which instances are activated below it.
	fresh := pair{root, newInstance(t, dbtest.SQLite(t), "Ship01")}
	fresh.apply(t)
	err := fresh.ship.Activate(t.Context(), "Cabin1", "third", "v9", from)
	if !errors.Is(err, gateway.ErrAlreadyActivated) {
		t.Error(err)
	}
}

func TestInvalidDesiredStateIsNotApplied(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	d, err := p.root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	for name, corrupt := range map[string]func(d *wire.Desired){
		"another's":      func(d *wire.Desired) { d.Self.Name = "Other1" },
		"no version":     func(d *wire.Desired) { d.Version = "" },
		"a bad schedule": func(d *wire.Desired) { d.Self.Schedule = "sometimes" },
		"a bad permission": func(d *wire.Desired) {
			d.ScopeMaps = []wire.ScopeMap{{Name: "m",
				Actions: []string{"x"}}}
		},
		"a bad network": func(d *wire.Desired) {
			d.ScopeMaps = []wire.ScopeMap{{Name: "m", AnonymousNetworks: []string{"office"}}}
		},
		"too many scope maps with networks": func(d *wire.Desired) {
			d.ScopeMaps = nil
			for range 101 {
				d.ScopeMaps = append(d.ScopeMaps, wire.ScopeMap{AnonymousNetworks: []string{"10.0.0.0/8"}})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := *d
			bad.Version = "other"
			corrupt(&bad)
			if err := p.ship.Apply(t.Context(), &bad); err == nil {
				t.Error("it was applied")
			}
			if own, err := p.ship.Own(t.Context()); err != nil || own.Schedule != "* * * * *" {
				t.Errorf("%v, %+v", err, own)
			}
		})
	}
	if err := p.root.Apply(t.Context(), d); err == nil {
		t.Error("a root applied a desired state")
	}
}

func TestOverdueConnectedRegistryIsOffline(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "always", "", "a")
	root.Call(t, "PUT", "/connected-registries/daily",
		object{"repositories": []string{"a"}, "syncSchedule": "0 12 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	for _, name := range []string{"always", "daily"} {
		if err := root.Activate(t.Context(), name, name, "v1", from); err != nil {
			t.Fatal(err)
		}
		r := &wire.Report{Self: wire.Status{Name: name, State: "Unhealthy", At: root.Now,
			Details: []wire.StatusDetail{{Type: "Disk", Code: "DiskError", Description: "full"}}}}
		if err := root.Report(t.Context(), name, name, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		after         time.Duration
		always, daily string
	}{
		{time.Minute, "Unhealthy", "Unhealthy"},
		{4 * time.Minute, "Offline", "Unhealthy"},
		{8 * time.Hour, "Offline", "Unhealthy"}, // before its window
		{10 * time.Hour, "Offline", "Offline"},  // its window opened
	} {
		root.Now = start.Add(test.after)
		if a, d := root.Show(t, "always").ConnectionState, root.Show(t, "daily").ConnectionState; a != test.always ||
			d != test.daily {
			t.Errorf("after %v: %s, %s", test.after, a, d)
		}
	}
	if r := root.Show(t, "daily"); len(r.StatusDetails) != 1 || r.StatusDetails[0].Code != "DiskError" {
		t.Errorf("%+v", r.StatusDetails)
	}
	// A poll without a report shows that the registry is online, too.
	if err := root.Report(t.Context(), "always", "always", nil); err != nil {
		t.Fatal(err)
	}
	if r := root.Show(t, "always"); r.ConnectionState != "Unhealthy" || !r.LastActivityTime.Equal(root.Now) {
		t.Errorf("%+v", r)
	}
}

func TestOnlyReadWriteAllowsPermittedChanges(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	d, err := p.root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	d.Self.Permissions = []string{"repositories/app/*/content/read", "repositories/app/*/content/write"}
	for _, mode := range []string{"ReadOnly", "Other", "ReadWrite"} {
		d.Version, d.Self.Mode = mode, mode
		if err := p.ship.Apply(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		push := p.ship.Control.Writable("app/a", auth.ContentRead, auth.ContentWrite)
		if (push == nil) != (mode == "ReadWrite") {
			t.Errorf("a push in mode %s: %v", mode, push)
		}
		for _, denied := range []error{
			p.ship.Control.Writable("app/a", auth.ContentDelete), p.ship.Control.Writable("other", auth.ContentWrite),
		} {
			if !errors.Is(denied, oci.ErrDenied) {
				t.Errorf("what the registry may not do at its parent, in mode %s: %v", mode, denied)
			}
		}
	}
	if err := p.root.Control.Writable("any", auth.ContentDelete); err != nil {
		t.Errorf("a root: %v", err)
	}
}
