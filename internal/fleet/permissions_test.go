package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"

	"github.com/google/go-cmp/cmp"
)

// repositories returns the repositories, patterns and exclusions that a connected registry's scope map
// allows, or excludes, to read.
func (i *instance) repositories(t *testing.T, name string) (all []string) {
	t.Helper()
	var m api.ScopeMap
	i.Call(t, "GET", "/connected-registries/"+name+"/permissions", nil).OK(t, &m)
	for _, a := range m.Actions {
		if r, ok := strings.CutSuffix(a, "/content/read"); ok {
			all = append(all, strings.TrimPrefix(r, "repositories/"))
		}
	}
	return all
}

func (i *instance) updatePermissions(t *testing.T, name string, add, remove []string) fleettest.Response {
	t.Helper()
	return i.Call(t, "PATCH", "/connected-registries/"+name+"/permissions", object{"add": add, "remove": remove})
}

// newTree returns a root with this tree, in which everyone may sync a: top above left and right, and leaf
// below left; other beside top.
func newTree(t *testing.T) *instance {
	root := newRoot(t)
	for _, r := range [][2]string{
		{"level", ""}, {"other", ""}, {"left1", "level"}, {"right", "level"}, {"leaf1", "left1"},
	} {
		root.Connect(t, r[0], r[1], "a")
	}
	return root
}

// expect fails the test unless each connected registry may sync the named repositories.
func (i *instance) expect(t *testing.T, want map[string]string) {
	t.Helper()
	for name, repositories := range want {
		wanted := append([]string(nil), strings.Fields(repositories)...)
		if diff := cmp.Diff(wanted, i.repositories(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAddedPermissionsReachAllAncestors(t *testing.T) {
	root := newTree(t)
	var m api.ScopeMap
	root.updatePermissions(t, "LEAF1", []string{"b", "c/*"}, nil).OK(t, &m)
	if m.Name != "leaf1" || len(m.Warnings) > 0 {
		t.Errorf("%+v", m)
	}
	root.expect(t, map[string]string{
		"leaf1": "a b c/*", "left1": "a b c/*", "level": "a b c/*", "right": "a", "other": "a",
	})
	want := []string{"repositories/a/content/read", "repositories/a/metadata/read"}
	for _, r := range []string{"leaf1", "left1", "level"} {
		actions := root.Actions(t, r)
		for _, a := range append(want, "repositories/b/content/read", "repositories/b/metadata/read") {
			if !slices.Contains(actions, a) {
				t.Errorf("%s lacks %s", r, a)
			}
		}
		if slices.Contains(actions, "repositories/b/content/write") {
			t.Errorf("%s may write, in mode ReadOnly", r)
		}
	}
}

func TestRemovedPermissionsLeaveEveryBranch(t *testing.T) {
	root := newTree(t)
	root.updatePermissions(t, "leaf1", []string{"b"}, nil).OK(t, nil)
	root.updatePermissions(t, "right", []string{"b"}, nil).OK(t, nil)
	// Removal takes every action, also those that the mode does not give.
	root.Call(t, "PATCH", "/scope-maps/leaf1", object{"addActions": []string{"repositories/b/content/delete"}}).
		OK(t, nil)
	root.updatePermissions(t, "level", nil, []string{"b"}).OK(t, nil)
	root.expect(t, map[string]string{"level": "a", "left1": "a", "leaf1": "a", "right": "a", "other": "a"})
	if slices.Contains(root.Actions(t, "leaf1"), "repositories/b/content/delete") {
		t.Error("an action on a removed repository is left")
	}
	root.updatePermissions(t, "left1", []string{"d"}, []string{"a"}).OK(t, nil)
	root.expect(t, map[string]string{"level": "a d", "left1": "d", "leaf1": "", "right": "a", "other": "a"})
}

func TestRemovalWarnsOfPatternsThatStillAllow(t *testing.T) {
	root := newTree(t)
	root.updatePermissions(t, "leaf1", []string{"c/*", "c/d"}, nil).OK(t, nil)
	var m api.ScopeMap
	root.updatePermissions(t, "leaf1", nil, []string{"a", "c/d"}).OK(t, &m)
	if len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0].Message, "'leaf1' still syncs 'c/d'") ||
		!strings.HasSuffix(m.Warnings[0].Hint, "--add '!c/d'") {
		t.Errorf("%+v", m.Warnings)
	}
}

func TestAmbiguousUpdateIsRefused(t *testing.T) {
	root := newTree(t)
	root.updatePermissions(t, "leaf1", []string{"b", "c"}, []string{"c"}).
		Fails(t, 400, "INVALID", "update ambiguity", "'c'")
	root.updatePermissions(t, "leaf1", nil, nil).Fails(t, 400, "INVALID", "nothing to change")
	root.updatePermissions(t, "nosuch", []string{"b"}, nil).Fails(t, 404, "NOT_FOUND", "nosuch")
	root.updatePermissions(t, "leaf1", []string{"Big"}, nil).Fails(t, 400, "INVALID", "lower-case")
	root.updatePermissions(t, "leaf1", []string{"!*"}, nil).Fails(t, 400, "INVALID", "excludes every repository")
	for _, list := range []string{"ClientTokens", "Notifications"} {
		both := object{"add" + list: []string{"x"}, "remove" + list: []string{"x"}}
		root.Call(t, "PATCH", "/connected-registries/leaf1", both).Fails(t, 400, "INVALID", "update ambiguity")
	}
	root.expect(t, map[string]string{"leaf1": "a", "level": "a"})
}

func TestRefusedGrantChangesNothing(t *testing.T) {
	root := newTree(t)
	root.updatePermissions(t, "level", []string{"n/*", "!n/p/*"}, nil).OK(t, nil)
	root.updatePermissions(t, "leaf1", []string{"b", "n/p/x"}, nil).
		Fails(t, 409, "CONFLICT", "'level' excludes 'n/p/*'", "--remove-repository")
	root.expect(t, map[string]string{"leaf1": "a", "left1": "a", "level": "a n/* !n/p/*"})
	root.Call(t, "PUT", "/connected-registries/leaf2", object{"parent": "left1", "repositories": []string{"n/p/x"}}).
		Fails(t, 409, "CONFLICT", "n/p")
	root.Call(t, "GET", "/tokens/leaf2", nil).Fails(t, 404, "NOT_FOUND")
}

func TestExclusionsFollowTheTree(t *testing.T) {
	root := newTree(t)
	root.Connect(t, "leaf2", "left1", "n/*", "!n/s")
	root.expect(t, map[string]string{"leaf2": "n/* !n/s", "left1": "a n/* !n/s", "level": "a n/* !n/s", "right": "a"})
	// A grant of what an ancestor excludes ends the exclusion there, and nowhere else.
	root.updatePermissions(t, "leaf1", []string{"n/s"}, nil).OK(t, nil)
	root.expect(t, map[string]string{
		"leaf2": "n/* !n/s", "left1": "a n/* n/s", "level": "a n/* n/s", "leaf1": "a n/s",
	})
	// An exclusion that is added holds for the named registry. One that is removed is a grant.
	root.updatePermissions(t, "level", []string{"!n/t"}, nil).OK(t, nil)
	root.expect(t, map[string]string{"level": "a n/* n/s !n/t", "left1": "a n/* n/s"})
	root.updatePermissions(t, "left1", []string{"!n/t"}, nil).OK(t, nil)
	root.updatePermissions(t, "left1", nil, []string{"!n/t"}).OK(t, nil)
	root.expect(t, map[string]string{"level": "a n/* n/s n/t", "left1": "a n/* n/s"})
	root.Call(t, "PUT", "/connected-registries/leaf3", object{"repositories": []string{"!n/s"}}).
		Fails(t, 400, "INVALID", "nothing to sync")
}

// parsed returns the permissions of actions.
func parsed(t *testing.T, actions []string) auth.Permissions {
	t.Helper()
	p, err := auth.ParsePermissions(actions)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEarlierBuildsAreSentNoExclusions(t *testing.T) {
	root := newTree(t)
	root.updatePermissions(t, "leaf1", []string{"n/*", "!n/s", "m"}, nil).OK(t, nil)
	d, err := root.Desired(t.Context(), "level")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range d.ScopeMaps {
		p := parsed(t, m.Actions)
		if strings.Contains(strings.Join(m.Actions, " "), "!") || p.AllowsSome("n/*", auth.ContentRead) ||
			!p.AllowsRepository("m", auth.ContentRead) && m.Name == "leaf1" {
			t.Errorf("an earlier build gets %s with %q", m.Name, m.Actions)
		}
	}
	// This build gets all of it.
	child := newInstance(t, dbtest.SQLite(t), "level")
	var received wire.Desired
	if err := json.Unmarshal(text, &received); err != nil {
		t.Fatal(err)
	}
	if err := child.Apply(t.Context(), &received); err != nil {
		t.Fatal(err)
	}
	below, err := child.Desired(t.Context(), "left1")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range below.ScopeMaps {
		if m.Name != "leaf1" {
			continue
		}
		p := parsed(t, m.ActionsWithExclusions)
		if !p.AllowsRepository("n/x", auth.ContentRead) || p.AllowsRepository("n/s", auth.ContentRead) {
			t.Errorf("the child passes %q on", m.ActionsWithExclusions)
		}
	}
}

func TestRepositoryThatAncestorsLackIsAWarning(t *testing.T) {
	root := newTree(t)
	add := func(name string) (m api.ScopeMap) {
		root.Call(t, "PATCH", "/scope-maps/leaf1", object{"addActions": []string{
			"repositories/" + name + "/content/read", "repositories/" + name + "/metadata/read"}}).OK(t, &m)
		return m
	}
	m := add("b")
	if len(m.Warnings) != 1 ||
		!strings.Contains(m.Warnings[0].Message, "'b', because its ancestors 'left1', 'level'") ||
		m.Warnings[0].Hint != "ferry connected-registry permissions update -n leaf1 --add 'b'" {
		t.Errorf("%+v", m.Warnings)
	}
	if r := root.Show(t, "leaf1"); len(r.StatusDetails) != 1 || r.StatusDetails[0].Code != "PermissionGap" {
		t.Errorf("%+v", r.StatusDetails)
	}
	// The child hears of it, through its parent.
	d, err := root.Desired(t.Context(), "level")
	if err != nil {
		t.Fatal(err)
	}
	child := newInstance(t, dbtest.SQLite(t), "level")
	if err := child.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	below, err := child.Desired(t.Context(), "left1")
	if err != nil {
		t.Fatal(err)
	}
	leaf := newInstance(t, dbtest.SQLite(t), "left1")
	if err := leaf.Apply(t.Context(), below); err != nil {
		t.Fatal(err)
	}
	if of, err := leaf.Desired(t.Context(), "leaf1"); err != nil || !slices.Equal(of.Self.Gaps, []string{"b"}) {
		t.Errorf("%+v, %v", of, err)
	}
	// The command in the hint closes the gap.
	m = api.ScopeMap{}
	root.updatePermissions(t, "leaf1", []string{"b"}, nil).OK(t, &m)
	if len(m.Warnings) > 0 || len(root.Show(t, "leaf1").StatusDetails) > 0 {
		t.Errorf("%+v", m.Warnings)
	}
	// So does another scope map of the sync token, or of an ancestor's.
	root.PutScopeMap(t, "narrow", "repositories/a/content/read", "repositories/a/metadata/read")
	var token api.Token
	root.Call(t, "PATCH", "/tokens/level", object{"scopeMap": "narrow"}).OK(t, &token)
	if len(token.Warnings) != 2 { // of left1 and leaf1
		t.Errorf("%+v", token.Warnings)
	}
}

func TestRegistryWithAGapIsNotInSync(t *testing.T) {
	child := newInstance(t, dbtest.SQLite(t), "leaf1")
	child.Status = &wire.Status{Name: "leaf1", State: "Online", SyncState: "Succeeded", LastSyncSuccess: child.Now,
		Watermarks: map[string]int64{}}
	own := wire.Desired{Version: "1", Self: wire.ConnectedRegistry{Name: "leaf1", Parent: "left1", SyncToken: "leaf1",
		Spec: wire.Spec{Mode: api.ReadOnly, Schedule: "* * * * *", MessageTTL: "P2D", LogLevel: "Information",
			GCSchedule: "0 0 * * *"}}}
	for _, gaps := range [][]string{nil, {"b"}} {
		own.Version, own.Self.Gaps = fmt.Sprint("version ", gaps), gaps
		if err := child.Apply(t.Context(), &own); err != nil {
			t.Fatal(err)
		}
		v := child.SyncStatus().Verdict
		if v.InSync != (gaps == nil) || gaps != nil && !strings.Contains(*v.Reason, "ancestors may not sync") {
			t.Errorf("with the gaps %q: %+v", gaps, v)
		}
	}
}

func TestCleanupKeepsTokensThatOthersUse(t *testing.T) {
	root := newRoot(t)
	root.PutScopeMap(t, "shared", "repositories/a/content/read", "repositories/a/metadata/read")
	root.PutToken(t, "sync1", "shared")
	root.PutToken(t, "person", "shared")
	create := func(name, token string) {
		root.Call(t, "PUT", "/connected-registries/"+name, object{"syncToken": token}).OK(t, nil)
	}
	remove := func(query string) (d api.RegistryDeletion) {
		root.Call(t, "DELETE", "/connected-registries/ship1"+query, nil).OK(t, &d)
		return d
	}
	gateway := "scope-map update -n shared --remove-gateway ship1 config/read config/write message/read message/write"
	create("ship1", "sync1")
	if diff := cmp.Diff([]string{"token delete --yes -n sync1", gateway}, remove("").Leftovers); diff != "" {
		t.Error(diff)
	}
	create("ship1", "sync1")
	root.Call(t, "PUT", "/connected-registries/ship2",
		object{"repositories": []string{"a"}, "clientTokens": []string{"sync1"}}).OK(t, nil)
	kept := func(text string) {
		if d := remove("?cleanup=true"); len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0].Message, text) {
			t.Errorf("%+v", d)
		}
	}
	kept("'sync1' is kept")
	root.Call(t, "GET", "/tokens/sync1", nil).OK(t, nil)
	if a := root.Actions(t, "shared"); len(a) != 2 {
		t.Errorf("the scope map still has a gateway: %q", a)
	}
	root.Call(t, "DELETE", "/connected-registries/ship2?cleanup=true", nil).OK(t, nil)
	create("ship1", "sync1")
	kept("'shared' is kept")
	root.Call(t, "GET", "/tokens/sync1", nil).Fails(t, 404, "NOT_FOUND")
	root.Call(t, "GET", "/tokens/person", nil).OK(t, nil)
}

func TestResyncAnswersWithThePendingSync(t *testing.T) {
	root := newTree(t)
	if err := root.Activate(t.Context(), "level", "i1", "v1", "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	status := wire.Status{Name: "level", InstanceID: "i1", State: "Online", At: root.Now, SyncTrigger: "InitialSync",
		SyncState: "Succeeded", LastSyncStart: root.Now, LastSyncEnd: root.Now, LastSyncSuccess: root.Now}
	report := func() {
		if err := root.Report(t.Context(), "level", "i1", &wire.Report{Self: status}); err != nil {
			t.Fatal(err)
		}
	}
	report()
	root.Now = root.Now.Add(time.Second)
	resync := func() (r api.ConnectedRegistry) {
		root.Call(t, "POST", "/connected-registries/level/resync", nil).OK(t, &r)
		return r
	}
	r := resync()
	if got := r.RegistrySyncResult; got.SyncTrigger != "ManualResync" || got.SyncState != "Pending" ||
		!got.LastSyncStartTime.Equal(root.Now.Truncate(time.Second)) || !got.LastSyncEndTime.Equal(start) {
		t.Errorf("%+v", got)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Message, "offline below it: left1, leaf1, right") {
		t.Errorf("%+v", r.Warnings)
	}
	status.Resync, status.SyncTrigger, status.SyncState = 1, "ManualResync", "Syncing"
	report()
	got := root.Show(t, "level").RegistrySyncResult
	if got.SyncState != "Syncing" || got.SyncTrigger != "ManualResync" {
		t.Errorf("%+v", got)
	}
	root.Now = root.Now.Add(time.Hour)
	if r = resync(); len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0].Message, "'level' is offline") {
		t.Errorf("%+v", r.Warnings)
	}
}

func TestSyncTokenCannotBeDeleted(t *testing.T) {
	root := newTree(t)
	root.Call(t, "DELETE", "/tokens/leaf1", nil).
		Fails(t, 409, "CONFLICT", "sync token of the connected registry 'leaf1'")
	root.Call(t, "DELETE", "/scope-maps/leaf1", nil).Fails(t, 409, "CONFLICT", "'leaf1'")
	root.Call(t, "DELETE", "/connected-registries/leaf1", nil).OK(t, nil)
	root.Call(t, "DELETE", "/tokens/leaf1", nil).OK(t, nil)
	root.Call(t, "DELETE", "/scope-maps/leaf1", nil).OK(t, nil)
}

func TestGapNeedsAPerson(t *testing.T) {
	root := newTree(t)
	if err := root.Activate(t.Context(), "level", "i1", "v1", "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"level", "left1", "leaf1"} {
		root.SyncPassword(t, name)
	}
	status := func(name, instance string) wire.Status {
		return wire.Status{Name: name, InstanceID: instance, State: "Online", At: root.Now, SyncState: "Succeeded",
			LastSyncSuccess: root.Now, Watermarks: root.upTo(1000)}
	}
	root.Call(t, "PATCH", "/scope-maps/leaf1", object{"addActions": []string{"repositories/b/content/read"}}).OK(t, nil)
	err := root.Report(t.Context(), "level", "i1", &wire.Report{Self: status("level", "i1"),
		Descendants: []wire.Status{status("left1", "i2"), status("leaf1", "i3")}})
	if err != nil {
		t.Fatal(err)
	}
	r := root.Show(t, "leaf1")
	if r.Sync.InSync || r.Summary.State != api.NeedsYou || r.Summary.Reason == nil ||
		*r.Summary.Reason != "PermissionGap" {
		t.Errorf("%+v %+v", r.Sync, r.Summary)
	}
}
