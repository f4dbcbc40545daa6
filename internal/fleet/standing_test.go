package fleet_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/wire"
)

func TestStandingsAgreeWithVerdicts(t *testing.T) {
	root := newRoot(t)
	for name, repository := range map[string]string{"behind": "a", "outdated": "a", "synced": "b"} {
		root.activate(t, name, repository)
	}
	root.push(t, "a", "v1")
	head := root.push(t, "b", "v1")
	in := wire.Status{State: "Online", SyncState: "Succeeded", LastSyncSuccess: start, ItemsSynced: 1,
		Watermarks: root.upTo(head)}
	for _, s := range []struct {
		name   string
		change func(*wire.Status)
	}{
		{"behind", func(s *wire.Status) {
			s.ItemsPending, s.ItemsFailed, s.BytesTotal, s.BytesDone = 2, 1, 100, 30
			s.Details = []wire.StatusDetail{{Code: "ItemsFailed"}, {Code: "invented"}, {Code: "another"}}
		}},
		{"outdated", func(*wire.Status) {}},
		{"synced", func(*wire.Status) {}},
	} {
		st := in
		st.Name = s.name
		s.change(&st)
		root.receive(t, st)
	}
	root.Connect(t, "unused", "", "a")
	root.look(t)
	root.Now = root.Now.Add(time.Minute)
	root.push(t, "a", "v2") // "behind" and "outdated" receive this
	heard := start
	all := func() []fleet.Standing {
		t.Helper()
		all, err := root.Standings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if v := root.Show(t, s.Name); v.Sync.Status != s.Verdict || v.ConnectionState != s.Connection ||
				v.Summary.State != s.State {
				t.Errorf("%+v, but its verdict is %+v, and it is %s", s, v.Sync, v.ConnectionState)
			}
		}
		return all
	}
	pushed := root.Now
	want := []fleet.Standing{
		{Name: "behind", Verdict: api.NotInSync, State: api.NeedsYou, Reason: "ItemsFailed", Active: true,
			Connection: "Online", Heard: heard, InSync: start, Since: heard, Open: true,
			Problems:     []string{"ItemsFailed", "Other"},
			ItemsPending: 2, ItemsFailed: 1, BytesPending: 70, Outdated: true, ItemsUnheard: 1},
		{Name: "outdated", Verdict: api.NotInSync, State: api.CatchingUp, Active: true, Connection: "Online",
			Heard: heard, InSync: heard, Since: pushed, Open: true, Outdated: true, ItemsUnheard: 1},
		{Name: "synced", Verdict: api.InSync, State: api.InSync, Active: true, Connection: "Online", Heard: heard,
			InSync: heard, Open: true},
		{Name: "unused", Verdict: api.Unknown, State: api.Unknown, Reason: "NotActivated", Connection: "Offline",
			Open: true, Outdated: true},
	}
	if diff := cmp.Diff(want, all(), cmpopts.IgnoreUnexported(fleet.Standing{})); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
	root.Now = root.Now.Add(time.Hour)
	for i := range want[:3] {
		want[i].Verdict, want[i].Silent, want[i].Connection = api.Unknown, true, "Offline"
		want[i].State, want[i].Reason = api.Silent, "LinkDown"
	}
	want[2].Since = heard // nothing is known of it since then
	if diff := cmp.Diff(want, all(), cmpopts.IgnoreUnexported(fleet.Standing{})); diff != "" {
		t.Errorf("silent (-want +got):\n%s", diff)
	}
}

func TestStandingsFollowSyncWindows(t *testing.T) {
	root := newRoot(t) // it is 03:04:05
	root.activate(t, "ship1", "a")
	open := func() bool {
		t.Helper()
		all, err := root.Standings(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0].Open
	}
	for _, test := range []struct {
		schedule, window string
		end              time.Time
		want             bool
	}{
		{"0 3 * * *", "PT1H", time.Time{}, true},
		{"0 4 * * *", "PT1H", time.Time{}, false},
		{"0 4 * * *", "PT1H", start.Add(time.Minute), true},
	} {
		root.Call(t, "PATCH", "/connected-registries/ship1",
			object{"syncSchedule": test.schedule, "syncWindow": test.window}).OK(t, nil)
		root.receive(t, wire.Status{Name: "ship1", State: "Online", WindowEnd: test.end})
		if got := open(); got != test.want {
			t.Errorf("%+v: open: %t", test, got)
		}
	}
}

// A window lies in the future, so that no watermark covers the changes in between.
func TestChangesOutsideASubscriptionLeaveItInSync(t *testing.T) {
	root := newRoot(t)
	for name, repository := range map[string]string{
		"ship-all": "*", "ship-apps": "apps/*", "ship-nav": "apps/nav/*", "ship-other": "apps2/*",
		"ship-web": "apps/nav/web", "ship-near": "apps/nav",
	} {
		root.activate(t, name, repository)
	}
	head := root.push(t, "apps/nav/web", "v1")
	for _, name := range []string{"ship-all", "ship-apps", "ship-nav", "ship-other", "ship-web", "ship-near"} {
		root.receive(t, wire.Status{Name: name, State: "Online", LastSyncSuccess: start, Watermarks: root.upTo(head)})
	}
	for _, step := range []struct {
		push     string
		outdated []string // from then on
	}{
		{"base/debian", []string{"ship-all"}},
		{"apps/nav/charts", []string{"ship-all", "ship-apps", "ship-nav"}},
		{"apps/nav/web", []string{"ship-all", "ship-apps", "ship-nav", "ship-web"}},
	} {
		root.push(t, step.push, "v2")
		all, err := root.Standings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var outdated []string
		for _, s := range all {
			if s.Verdict != api.InSync {
				outdated = append(outdated, s.Name)
			}
		}
		if diff := cmp.Diff(step.outdated, outdated); diff != "" {
			t.Errorf("outdated after a push to %s (-want +got):\n%s", step.push, diff)
		}
	}
}
