package fleet_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// wantState checks the state of a connected registry, its reason, and how long it lags.
func (i *instance) wantState(t *testing.T, when, name, state, reason string, lag time.Duration) {
	t.Helper()
	r := i.Show(t, name)
	got, text := r.Summary, ""
	if got.Reason != nil {
		text = *got.Reason
	}
	if got.State != state || text != reason || got.State == api.InSync && !r.Sync.InSync {
		t.Errorf("%s: %s is %s (%q), and its verdict is %s; want %s (%q)", when, name, got.State, text, r.Sync.Status,
			state, reason)
	}
	if (text == "") != (got.Action == nil) {
		t.Errorf("%s: the reason %q has the action %v", when, text, got.Action)
	}
	if got.LagSeconds == nil && lag > 0 || got.LagSeconds != nil && *got.LagSeconds != int64(lag/time.Second) {
		t.Errorf("%s: %s lags by %v, want %v", when, name, got.LagSeconds, lag)
	}
}

func TestStateFollowsPushesAndReports(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a")
		root.push(t, "a", "v1")
		root.wantState(t, "activated", "ship1", api.CatchingUp, "", 0)
		st := good("ship1")
		later := func(d time.Duration) { root.Now = root.Now.Add(d) }
		hear := func(change func(*wire.Status)) {
			t.Helper()
			if change != nil {
				change(&st)
			}
			root.receive(t, st)
		}
		hear(func(st *wire.Status) { st.Watermarks = root.upTo(root.head(t)) })
		root.wantState(t, "it has everything", "ship1", api.InSync, "", 0)
		later(time.Hour)
		hear(nil)
		root.push(t, "a", "v2")
		root.wantState(t, "at once after a push", "ship1", api.CatchingUp, "", 0)
		later(2 * time.Minute)
		hear(func(st *wire.Status) {
			st.Watermarks, st.ItemsPending, st.BytesTotal, st.State = root.upTo(root.head(t)), 1, 1000, "Syncing"
			st.BytesPerSecond = 10
		})
		later(9 * time.Minute)
		hear(nil)
		root.wantState(t, "bytes come", "ship1", api.CatchingUp, "", 11*time.Minute)
		hear(func(st *wire.Status) { st.State, st.BytesPerSecond = "Online", 0 })
		for range 11 {
			later(time.Minute)
			hear(nil)
		}
		root.wantState(t, "it stands still", "ship1", api.Behind, "NoProgress", 22*time.Minute)
		hear(func(st *wire.Status) { st.Paused = true })
		root.wantState(t, "it is paused", "ship1", api.Waiting, "Paused", 22*time.Minute)
		hear(func(st *wire.Status) {
			st.Paused, st.Details = false, []wire.StatusDetail{{Code: "BudgetSpent"}}
		})
		root.wantState(t, "its budget is spent", "ship1", api.Waiting, "BudgetSpent", 22*time.Minute)
		hear(func(st *wire.Status) { st.Details = []wire.StatusDetail{{Code: "DiskError"}} })
		root.wantState(t, "its disk is full", "ship1", api.NeedsYou, "DiskError", 22*time.Minute)
		later(16 * time.Minute)
		root.wantState(t, "it is not heard", "ship1", api.Silent, "LinkDown", 38*time.Minute)
		root.Refused("ship1", "203.0.113.7", wire.Problem{Status: 401})
		root.wantState(t, "its login is refused", "ship1", api.NeedsYou, "ParentRefuses", 38*time.Minute)
		hear(func(st *wire.Status) { st.Details, st.ItemsPending = nil, 0 })
		root.wantState(t, "it is back", "ship1", api.InSync, "", 0)
		hear(func(st *wire.Status) { st.Details = []wire.StatusDetail{{Code: wire.Conflict}} })
		root.wantState(t, "in sync, with a conflict", "ship1", api.NeedsYou, wire.Conflict, 0)
		hear(func(st *wire.Status) { st.Details = nil })
		root.Call(t, "PATCH", "/tokens/ship1", object{"status": "disabled"}).OK(t, nil)
		root.wantState(t, "its token is disabled", "ship1", api.NeedsYou, "ParentRefuses", 0)
		root.Call(t, "POST", "/connected-registries/ship1/deactivate", nil).OK(t, nil)
		root.wantState(t, "it is deactivated", "ship1", api.Unknown, "NotActivated", 0)
	})
}

func TestClosedWindowIsNoAlarm(t *testing.T) {
	root := newRoot(t) // it is 03:04:05
	root.activate(t, "ship1", "a")
	root.Call(t, "PATCH", "/connected-registries/ship1",
		object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	st := good("ship1")
	st.Watermarks = root.upTo(root.push(t, "a", "v1"))
	root.Now = root.Now.Add(time.Second)
	root.receive(t, st)
	root.Now = root.Now.Add(10 * time.Hour)
	root.wantState(t, "by day", "ship1", api.InSync, "", 0)
	root.push(t, "a", "v2")
	root.wantState(t, "a push by day", "ship1", api.Waiting, "WindowClosed", 0)
	next := time.Date(2030, 1, 3, 2, 0, 0, 0, time.UTC)
	if s := root.Show(t, "ship1").Summary; s.NextWindowTime == nil || !s.NextWindowTime.Equal(next) ||
		s.ItemsToGo != 1 || !s.AtMost || s.AtLeast {
		t.Errorf("%+v", s)
	}
	pushed := root.Now
	root.Now = next.Add(11 * time.Minute)
	root.wantState(t, "its window opened", "ship1", api.Behind, "NoProgress",
		root.Now.Sub(pushed).Truncate(time.Second))
	root.Now = next.Add(16 * time.Minute)
	root.wantState(t, "it does not come", "ship1", api.Silent, "LinkDown", root.Now.Sub(pushed).Truncate(time.Second))
	if state := root.Show(t, "ship1").ConnectionState; state != api.Offline {
		t.Errorf("it is %s", state)
	}
	root.receive(t, st)
	root.Now = next.Add(20 * time.Minute)
	root.wantState(t, "it polls, and nothing comes", "ship1", api.Behind, "NoProgress",
		root.Now.Sub(pushed).Truncate(time.Second))
	root.Now = next.Add(40 * time.Minute)
	root.wantState(t, "it went away in its window", "ship1", api.Silent, "LinkDown",
		root.Now.Sub(pushed).Truncate(time.Second))
}

func TestFormerScheduleHoldsUntilItIsHeard(t *testing.T) {
	root := newRoot(t) // it is 03:04:05
	root.activate(t, "ship1", "a")
	patch := func(schedule, window string) {
		root.Call(t, "PATCH", "/connected-registries/ship1",
			object{"syncSchedule": schedule, "syncWindow": window}).OK(t, nil)
	}
	patch("0 2 * * *", "PT1H")
	root.Now = root.Now.Add(time.Second)
	st := good("ship1")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	root.Now = root.Now.Add(time.Hour)
	patch("* * * * *", "")
	patch("0 * * * *", "PT1H")
	root.Now = root.Now.Add(8 * time.Hour)
	root.wantState(t, "it sleeps by its former schedule", "ship1", api.InSync, "", 0)
	root.Now = root.Now.Add(15 * time.Hour)
	root.wantState(t, "it misses its former window", "ship1", api.Silent, "LinkDown", 24*time.Hour)
	root.receive(t, st)
	root.Now = root.Now.Add(20 * time.Minute)
	root.wantState(t, "it has heard of the new one", "ship1", api.Silent, "LinkDown", 20*time.Minute)
}

func TestChildWaitsForItsParent(t *testing.T) {
	root := newRoot(t)
	ship, cabin := tree(t, root)
	ship.LastSyncSuccess, cabin.LastSyncSuccess = start, start
	root.receiveBoth(t, ship, cabin)
	root.look(t)
	root.Call(t, "PATCH", "/connected-registries/ship1",
		object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	root.Now = root.Now.Add(time.Second)
	root.receiveBoth(t, ship, cabin)
	root.push(t, "a", "v3")
	root.wantState(t, "the parent's window is closed", "ship1", api.Waiting, "WindowClosed", 0)
	root.wantState(t, "the parent's window is closed", "cabin1", api.Waiting, "ParentBehind", 0)
	root.Now = root.Now.Add(24 * time.Hour)
	root.wantState(t, "the parent is silent", "cabin1", api.Silent, "ParentSilent", 24*time.Hour)
	if cause := root.Show(t, "cabin1").Summary.Cause; cause == nil || *cause != "ship1" {
		t.Errorf("the cause is %v", cause)
	}
}

func TestLagSurvivesARestart(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a")
		st := good("ship1")
		st.Watermarks = root.upTo(root.push(t, "a", "v1"))
		root.receive(t, st)
		root.push(t, "a", "v2")
		root.wantState(t, "pushed", "ship1", api.CatchingUp, "", 0)
		root.Now = root.Now.Add(5 * time.Minute)
		if err := root.SaveSeen(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := root.restarted(t)
		all, err := again.Standings(t.Context())
		if err != nil || len(all) != 1 || root.Now.Sub(all[0].Since) != 5*time.Minute {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// restarted returns a new service over the same database, which has looked at nothing yet.
func (i *instance) restarted(t *testing.T) *fleet.Service {
	t.Helper()
	s, err := fleet.New(t.Context(), fleet.Options{
		DB: i.DB, Control: i.Control, Content: i.Storage, Now: func() time.Time { return i.Now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the tracker remembers must not differ from what it would find out anew.
func TestIncrementalLookAgreesWithAFreshOne(t *testing.T) {
	root := newRoot(t)
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"ship1", "ship2", "ship3"}
	root.activate(t, "ship1", "a", "b/*")
	root.activate(t, "ship2", "*")
	root.activate(t, "ship3", "b/x")
	repositories := []string{"a", "b/x", "b/y", "c"}
	for step := range 150 {
		name, repository := names[random.IntN(3)], repositories[random.IntN(4)]
		tag := fmt.Sprint("v", random.IntN(3))
		change := ""
		switch random.IntN(8) {
		case 0, 1:
			change = "push " + repository + " " + tag
			layer := bytes.Repeat([]byte{'x'}, 100+random.IntN(5)) // some images share it
			root.Push(repository, root.Image(repository, fmt.Sprint("config", step), layer), tag)
		case 2:
			change = "delete " + repository + " " + tag
			_ = root.Storage.DeleteTag(t.Context(), repository, tag) // it may not exist
		case 3:
			change = "filter of " + name
			filters := [][]string{{}, {"v1"}, {"!v2"}}[random.IntN(3)]
			root.Call(t, "PATCH", "/connected-registries/"+name,
				object{"tagFilters": filters, "keepLast": random.IntN(2)}).OK(t, nil)
		case 4:
			change = "scope map of " + name
			action := "repositories/" + repository + "/content/read"
			verb := []string{"addActions", "removeActions"}[random.IntN(2)]
			root.Call(t, "PATCH", "/scope-maps/"+name, object{verb: []string{action}})
		default:
			change = "report of " + name
			st := good(name)
			st.Watermarks = root.upTo(max(root.head(t)-int64(random.IntN(4)), 1))
			root.receive(t, st)
		}
		got, err := root.Standings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := root.SaveSeen(t.Context()); err != nil {
			t.Fatal(err)
		}
		want, err := root.restarted(t).Standings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		brief := func(all []fleet.Standing) (lines []string) {
			for _, v := range all {
				lines = append(lines, fmt.Sprintln(v.Name, v.Verdict, v.State, v.Reason, v.Outdated, v.Since.UTC(),
					v.ItemsUnheard, v.BytesUnheard, v.Uncounted))
			}
			return lines
		}
		if diff := cmp.Diff(brief(want), brief(got)); diff != "" {
			t.Fatalf("step %d, %s (-fresh +incremental):\n%s", step, change, diff)
		}
	}
}

func TestListPagesStayInOrderWhileRegistriesChange(t *testing.T) {
	root := newRoot(t)
	for _, name := range []string{"ship1", "ship2", "ship3", "ship4"} {
		root.activate(t, name, "a")
	}
	root.Connect(t, "cabin1", "ship2", "a")
	head := root.push(t, "a", "v1")
	for i, name := range []string{"ship1", "ship2", "ship3", "ship4"} {
		st := good(name)
		st.Watermarks = root.upTo(head)
		if i == 2 {
			st.ItemsFailed, st.Details = 1, []wire.StatusDetail{{Code: "DiskError"}}
		}
		root.receive(t, st)
	}
	walk := func(query string, between func(page int)) (names []string) {
		t.Helper()
		path := "/connected-registries?n=2&" + query
		for page := 0; path != ""; page++ {
			var list struct {
				Value    []api.ConnectedRegistry
				NextLink string
			}
			root.Call(t, "GET", path, nil).OK(t, &list)
			for _, r := range list.Value {
				names = append(names, r.Name)
			}
			if path = ""; list.NextLink != "" {
				path = list.NextLink[len("/api/v1"):]
			}
			if between != nil {
				between(page)
			}
		}
		return names
	}
	for query, want := range map[string][]string{
		"":                              {"ship1", "ship2", "cabin1", "ship3", "ship4"},
		"sort=worst":                    {"ship3", "cabin1", "ship1", "ship2", "ship4"},
		"filter=-state:insync":          {"cabin1", "ship3"},
		"parent=ship2":                  {"cabin1"},
		"children=direct&sort=worst":    {"ship3", "ship1", "ship2", "ship4"},
		"filter=image:a:v1":             {"ship1", "ship2", "ship4"}, // ship3 does not say what failed
		"filter=!image:a:v1":            {"cabin1", "ship3"},
		"filter=parent:ship*&sort=tree": {"cabin1"},
	} {
		if diff := cmp.Diff(want, walk(query, nil)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	root.Call(t, "GET", "/connected-registries?after=x", nil).Fails(t, 400, "INVALID", "cursor")
	got := walk("", func(page int) {
		if page == 0 { // the last one of the first page is deleted, with its child
			root.Call(t, "DELETE", "/connected-registries/cabin1", nil).OK(t, nil)
			root.Call(t, "DELETE", "/connected-registries/ship2", nil).OK(t, nil)
		}
	})
	if want := []string{"ship1", "ship2", "ship3", "ship4"}; !slices.Equal(got, want) {
		t.Errorf("after a deletion between two pages: %v", got)
	}
	var counts api.Fleet
	root.Call(t, "GET", "/fleet", nil).OK(t, &counts)
	if counts.Sites != 3 || counts.InSync != 2 || len(counts.Reasons) != 1 || counts.Reasons[0].Reason != "DiskError" ||
		counts.States[0] != (api.StateCount{State: api.NeedsYou, Sites: 1}) {
		t.Errorf("%+v", counts)
	}
}

func TestCoverageListsHoldersAndOtherReasons(t *testing.T) {
	root := newRoot(t)
	for _, name := range []string{"has01", "pending", "failing", "arm01"} {
		root.activate(t, name, "a")
	}
	root.activate(t, "other", "b")
	root.activate(t, "filter", "a")
	root.Connect(t, "unused", "", "a")
	root.Call(t, "PATCH", "/connected-registries/filter", object{"tagFilters": []string{"v9*"}}).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/arm01", object{"platforms": []string{"linux/arm64"}}).OK(t, nil)
	amd64 := storagetest.ReferenceFor("linux/amd64", root.Push("a", root.Image("a", "amd64")).Digest)
	arm64 := storagetest.ReferenceFor("linux/arm64", root.Push("a", root.Image("a", "arm64")).Digest)
	index := root.Push("a", storagetest.Index(amd64, arm64), "v1")
	head := root.head(t)
	for _, name := range []string{"has01", "pending", "failing", "arm01", "other", "filter"} {
		st := good(name)
		st.Watermarks = root.upTo(head)
		item := wire.OutOfSyncItem{Repository: "a", Tag: "v1", Digest: index.Digest}
		switch name {
		case "pending":
			st.ItemsPending, st.OutOfSync = 1, []wire.OutOfSyncItem{item}
		case "failing":
			item.Error = "no space"
			st.ItemsFailed, st.OutOfSync = 1, []wire.OutOfSyncItem{item}
		}
		root.receive(t, st)
	}
	coverage := func(query string) (v api.Coverage, lines []string) {
		t.Helper()
		root.Call(t, "GET", "/coverage?"+query, nil).OK(t, &v)
		for _, i := range v.Value {
			reason := ""
			if i.Reason != nil {
				reason = " " + *i.Reason
			}
			lines = append(lines, i.Name+" "+i.Image+reason)
		}
		return v, lines
	}
	all := []string{"arm01 Has", "failing Lacks ItemFailed", "filter NotSubscribed NotSelected", "has01 Has",
		"other NotSubscribed NotAllowed", "pending Lacks Pending", "unused Lacks NotActivated"}
	v, lines := coverage("image=a:v1")
	if diff := cmp.Diff(all, lines); diff != "" {
		t.Errorf("by tag: %s", diff)
	}
	if v.Sites != 5 || v.Have != 2 || v.Lack != 3 || v.NotSubscribed != 2 || v.Percent != 40 ||
		v.Digest != string(index.Digest) {
		t.Errorf("%+v", v)
	}
	if _, lines := coverage("image=a@" + string(index.Digest)); !slices.Equal(lines, all) {
		t.Errorf("by digest: %q", lines)
	}
	_, lines = coverage("image=a@" + string(arm64.Digest))
	if !slices.Equal(lines, all) {
		t.Errorf("by the digest of an image in the index: %q", lines)
	}
	_, lines = coverage("image=a@" + string(amd64.Digest))
	if want := "arm01 NotSubscribed NotSelected"; lines[0] != want {
		t.Errorf("an image for a platform that it does not get: %q, want %q", lines[0], want)
	}
	if _, lines := coverage("image=a:v1&missing=true&filter=-name:un*"); !slices.Equal(lines,
		[]string{"failing Lacks ItemFailed", "pending Lacks Pending"}) {
		t.Errorf("missing: %q", lines)
	}
	v, lines = coverage("image=a:v1&n=2")
	if len(lines) != 2 || v.NextLink == "" {
		t.Errorf("a page: %q, %q", lines, v.NextLink)
	}
	_, lines = coverage(v.NextLink[len("/api/v1/coverage?"):])
	if !slices.Equal(lines, all[2:4]) {
		t.Errorf("the next page: %q", lines)
	}
	root.Call(t, "GET", "/coverage?image=a:v7", nil).Fails(t, 404, "NOT_FOUND", "a:v7")
	root.Call(t, "GET", "/coverage?image=a", nil).Fails(t, 400, "INVALID", "want REPOSITORY:TAG")

	// A push makes the image of the tag another one, which nobody has yet.
	root.push(t, "a", "v1")
	if v, _ := coverage("image=a:v1"); v.Have != 0 {
		t.Errorf("after a push %d have it", v.Have)
	}
}
