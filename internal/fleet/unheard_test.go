package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/wire"
)

// unheardBy returns the connected registries that have not received a write, with their expected
// times, as the day and time. "" is an unknown time.
func (i *instance) unheardBy(t *testing.T, method, path string, body any) map[string]string {
	t.Helper()
	r := i.Call(t, method, path, body)
	if r.Status == 204 {
		return nil
	}
	var result api.WriteResult
	r.OK(t, &result)
	if result.Unheard == nil {
		return nil
	}
	all := map[string]string{}
	for _, u := range result.Unheard.Registries {
		all[u.Name] = ""
		if u.ExpectedTime != nil {
			all[u.Name] = u.ExpectedTime.Format("02 15:04")
		}
	}
	if result.Unheard.Count != len(all) {
		t.Errorf("%d are counted: %v", result.Unheard.Count, all)
	}
	return all
}

func TestWriteListsUnheardRegistries(t *testing.T) {
	nightly := object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	for _, token := range []string{"all", "ships", "cabins", "nobodys"} {
		root.PutToken(t, token, "m")
	}
	for name, settings := range map[string]object{"ship1": nightly, "ship2": nil, "ship3": nightly} {
		root.activate(t, name, "a")
		if settings != nil {
			root.Call(t, "PATCH", "/connected-registries/"+name, settings).OK(t, nil)
		}
	}
	use := func(name string, tokens ...string) {
		root.Call(t, "PATCH", "/connected-registries/"+name, object{"addClientTokens": tokens}).OK(t, nil)
	}
	// All are below a nightly registry. cabin1 has its own schedule, cabin2 is continuous, and
	// cabin3 is not activated.
	for _, name := range []string{"cabin1", "cabin2", "cabin3"} {
		root.Connect(t, name, "ship1", "a")
		root.SyncPassword(t, name)
		use(name, "all", "cabins")
	}
	root.Call(t, "PATCH", "/connected-registries/cabin1",
		object{"syncSchedule": "0 5 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	for _, name := range []string{"ship1", "ship2"} {
		use(name, "all", "ships")
	}
	hear := func() {
		for _, name := range []string{"ship2", "ship3"} {
			root.receive(t, good(name))
		}
		cabin1, cabin2 := good("cabin1"), good("cabin2")
		cabin1.InstanceID, cabin1.At, cabin2.InstanceID, cabin2.At = "c1", root.Now, "c2", root.Now
		root.receive(t, good("ship1"), cabin1, cabin2)
	}
	hear()
	root.Now = root.Now.Add(3 * time.Hour) // 06:04, between two windows
	root.receive(t, good("ship2"))
	disabled, enabled := object{"status": "disabled"}, object{"status": "enabled"}
	for _, test := range []struct {
		name, method, path string
		body               any
		want               map[string]string
	}{
		{"a client token", "PATCH", "/tokens/all", disabled,
			map[string]string{"ship1": "03 02:00", "cabin1": "03 05:00", "cabin2": "03 02:00"}},
		{"a token of one registry", "PATCH", "/tokens/ships", disabled, map[string]string{"ship1": "03 02:00"}},
		{"its password", "DELETE", "/tokens/ships/credentials/password1", nil, map[string]string{"ship1": "03 02:00"}},
		{"new passwords", "POST", "/tokens/ships/credentials", object{"passwords": []string{"password1"}},
			map[string]string{"ship1": "03 02:00"}},
		{"an unused token", "PATCH", "/tokens/nobodys", disabled, nil},
		{"a scope map", "PATCH", "/scope-maps/m", object{"addActions": []string{"repositories/b/content/read"}},
			map[string]string{"ship1": "03 02:00", "cabin1": "03 05:00", "cabin2": "03 02:00"}},
		{"a continuous connected registry", "PATCH", "/connected-registries/ship2",
			object{"gcEnabled": false}, nil},
		{"a nightly connected registry", "PATCH", "/connected-registries/ship3", object{"gcEnabled": false},
			map[string]string{"ship3": "03 02:00"}},
		{"a resync", "POST", "/connected-registries/cabin1/resync", nil,
			map[string]string{"ship1": "03 02:00", "cabin1": "03 05:00"}},
		{"the sync token of a child", "PATCH", "/tokens/ship3", disabled, nil},
		{"the same", "PATCH", "/tokens/ship3", enabled, nil},
		{"the sync token of a grandchild", "PATCH", "/tokens/cabin2", disabled,
			map[string]string{"ship1": "03 02:00"}},
		{"a deactivation of a grandchild", "POST", "/connected-registries/cabin1/deactivate", nil,
			map[string]string{"ship1": "03 02:00"}},
		{"a read of the settings", "POST", "/connected-registries/cabin3/settings",
			object{"parentProtocol": "http"}, nil},
		{"a new sync password of a grandchild", "POST", "/connected-registries/cabin3/settings",
			object{"parentProtocol": "http", "generatePassword": 1}, map[string]string{"ship1": "03 02:00"}},
		{"a deleted token", "DELETE", "/tokens/ships", nil, map[string]string{"ship1": "03 02:00"}},
		{"a deleted connected registry", "DELETE", "/connected-registries/cabin3", nil,
			map[string]string{"ship1": "03 02:00"}},
	} {
		if diff := cmp.Diff(test.want, root.unheardBy(t, test.method, test.path, test.body)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	root.Now = root.Now.Add(48 * time.Hour)
	want := map[string]string{"ship1": "", "ship2": "", "cabin2": ""}
	if diff := cmp.Diff(want, root.unheardBy(t, "PATCH", "/tokens/all", enabled)); diff != "" {
		t.Errorf("no reports for two days: %s", diff)
	}
}

func TestRegistryInAnExtraWindowIsNotUnheard(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	root.activate(t, "ship1", "a")
	root.Connect(t, "cabin1", "ship1", "a")
	root.SyncPassword(t, "cabin1")
	for _, name := range []string{"ship1", "cabin1"} {
		root.Call(t, "PATCH", "/connected-registries/"+name, object{
			"addClientTokens": []string{"line1"}, "syncSchedule": "0 2 * * *", "syncWindow": "PT1H",
		}).OK(t, nil)
	}
	both := map[string]string{"ship1": "03 02:00", "cabin1": "03 02:00"}
	cabin := map[string]string{"cabin1": "03 02:00"}
	ends := root.Now.Add(20 * time.Minute)
	for _, test := range []struct {
		name               string
		shipEnds, cabinEnd time.Time
		later              time.Duration
		want               map[string]string
	}{
		{"between two windows", time.Time{}, time.Time{}, 0, both},
		{"both are in an extra window", ends, ends, 0, nil},
		{"only the parent is", ends, time.Time{}, 0, cabin},
		{"the link is down", ends, ends, 10 * time.Minute, both},
		{"the window is over", root.Now, ends, 0, both},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.receiveBoth(t, wire.Status{Name: "ship1", State: "Online", WindowEnd: test.shipEnds},
				wire.Status{Name: "cabin1", InstanceID: "c1", State: "Online", WindowEnd: test.cabinEnd})
			now := root.Now
			defer func() { root.Now = now }()
			root.Now = now.Add(test.later)
			got := root.unheardBy(t, "PATCH", "/tokens/line1", object{"status": "enabled"})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSilentRegistryInAnOpenWindowIsUnheard(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	root.activate(t, "ship1", "a")
	root.Call(t, "PATCH", "/connected-registries/ship1", object{
		"addClientTokens": []string{"line1"}, "syncSchedule": "0 3 * * *", "syncWindow": "PT4H",
	}).OK(t, nil)
	unheard := func(want bool, when string) {
		t.Helper()
		got := root.unheardBy(t, "PATCH", "/tokens/line1", object{"status": "enabled"})
		if _, ok := got["ship1"]; ok != want {
			t.Errorf("%s: unheard are %v", when, got)
		}
	}
	unheard(true, "before its first poll")
	end := root.Polling("Ship1")
	root.Now = root.Now.Add(10 * time.Minute)
	unheard(false, "while a poll is held")
	end(true)
	root.Now = root.Now.Add(5 * time.Second)
	unheard(false, "soon after an answer")
	root.Now = root.Now.Add(10 * time.Second)
	unheard(true, "long after an answer")
	end = root.Polling("ship1")
	end(false)
	unheard(true, "when the connection is lost")
	end = root.Polling("ship1")
	next := root.Polling("ship1")
	next(true)
	end(false)
	unheard(false, "after the answer to a newer poll")
}

func TestAtMostTwentyUnheardRegistriesAreListed(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.PutToken(t, "line1", "m")
	for n := range 25 {
		name := fmt.Sprintf("ship%02d", n)
		root.activate(t, name, "a")
		body := object{"addClientTokens": []string{"line1"}, "syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}
		if n == 7 {
			body["syncSchedule"] = "0 2 5 * *"
		}
		root.Call(t, "PATCH", "/connected-registries/"+name, body).OK(t, nil)
	}
	var result api.WriteResult
	root.Call(t, "PATCH", "/tokens/line1", object{"status": "disabled"}).OK(t, &result)
	if u := result.Unheard; u == nil || u.Count != 25 || len(u.Registries) != 20 || u.Registries[0].Name != "ship07" {
		t.Errorf("%+v", u)
	}
	var shown api.WriteResult
	root.Call(t, "GET", "/tokens/line1", nil).OK(t, &shown)
	if shown.Unheard != nil {
		t.Errorf("the answer to a read lists them, too: %+v", shown.Unheard)
	}
}
