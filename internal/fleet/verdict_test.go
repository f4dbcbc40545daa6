package fleet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// idle is a Syncer without items in flight.
type idle struct{ management.Syncer }

func (idle) InFlight(context.Context) ([]wire.OutOfSyncItem, error) { return nil, nil }

// good returns the report of a registry in sync. Its watermark is of a feed that is not compared.
func good(name string) wire.Status {
	return wire.Status{
		Name: name, State: "Online", SyncState: "Succeeded", LastSyncSuccess: start, ItemsSynced: 3,
		Watermarks: map[string]int64{"feed": 1},
	}
}

func TestVerdictClaimsNoMoreThanIsKnown(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*wire.Status)
		schedule string
		later    time.Duration // since the parent last answered
		status   string
		reason   string
	}{
		{"in sync", nil, "* * * * *", time.Minute, "InSync", ""},
		{"the link has been down for minutes", nil, "* * * * *", 10 * time.Minute, "InSync", ""},
		{"the link has been down for an hour", nil, "* * * * *", time.Hour, "Unknown", "the parent was not heard"},
		{"between two windows", nil, "0 2 * * *", 13 * time.Hour, "InSync", ""},
		{"a window passed without an answer", nil, "0 2 * * *", 27 * time.Hour, "Unknown", "the parent was not heard"},
		{"not activated", func(s *wire.Status) { s.SyncState = "NotActivated" }, "* * * * *", 0, "Unknown",
			"not activated"},
		{"refused", func(s *wire.Status) { s.Details = []wire.StatusDetail{{Code: "ParentRefuses"}} }, "0 2 * * *", 0,
			"Unknown", "refuses"},
		{"refused, with pending items", func(s *wire.Status) {
			s.Details, s.ItemsPending = []wire.StatusDetail{{Code: "ParentRefuses"}}, 1
		}, "* * * * *", 0, "Unknown", "refuses"},
		{"paused in sync", func(s *wire.Status) { s.Paused = true }, "* * * * *", 0, "InSync", ""},
		{"damaged", func(s *wire.Status) {
			s.Details, s.ItemsPending = []wire.StatusDetail{{Code: "Damaged"}}, 1
		}, "* * * * *", 0, "NotInSync", "damaged"},
		{"damaged content that no item needs", func(s *wire.Status) {
			s.Details = []wire.StatusDetail{{Code: "Damaged"}}
		}, "* * * * *", 0, "NotInSync", "damaged"},
		{"pending items", func(s *wire.Status) { s.ItemsPending = 1 }, "* * * * *", 0, "NotInSync",
			"still to be fetched"},
		{"failed items", func(s *wire.Status) { s.ItemsFailed = 1 }, "* * * * *", 0, "NotInSync", "failed"},
		{"new", func(s *wire.Status) { s.LastSyncSuccess = time.Time{} }, "* * * * *", 0, "NotInSync", "no sync"},
		{"a listing is incomplete", func(s *wire.Status) { s.Watermarks = nil }, "* * * * *", 0, "Unknown",
			"not known yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, newRoot(t), dbtest.SQLite(t))
			if test.schedule != "* * * * *" {
				p.root.Call(t, "PATCH", "/connected-registries/Ship01",
					object{"syncSchedule": test.schedule, "syncWindow": "PT1H"}).OK(t, nil)
				p.apply(t)
			}
			st := good("Ship01")
			if test.change != nil {
				test.change(&st)
			}
			p.ship.Status, p.ship.Heard, p.ship.Now = &st, start, start.Add(test.later)
			p.ship.Serve(t, management.Options{Syncer: idle{}})
			want := api.Verdict{InSync: test.status == api.InSync, Status: test.status, AsOfTime: api.Time(start)}
			var own api.SyncStatus
			p.ship.Call(t, "GET", "/sync", nil).OK(t, &own)
			var instance api.InstanceStatus
			p.ship.Call(t, "GET", "/status", nil).OK(t, &instance)
			for surface, got := range map[string]api.Verdict{
				"sync": own.Verdict, "status": instance.Sync.Verdict, "show": p.ship.Show(t, "Ship01").Sync,
			} {
				if (got.Reason == nil) != (test.reason == "") || got.Reason != nil &&
					!strings.Contains(*got.Reason, test.reason) {
					t.Errorf("%s: reason %v, want %q", surface, got.Reason, test.reason)
				}
				got.Reason = nil
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s", surface, diff)
				}
			}
		})
	}
}

// everywhere returns the verdict on a registry, which must be equal on all surfaces.
func (i *instance) everywhere(t *testing.T, name string) api.Verdict {
	t.Helper()
	child := i.descendantSync(t, name)
	var list struct{ Value []api.ConnectedRegistry }
	i.Call(t, "GET", "/connected-registries", nil).OK(t, &list)
	all := map[string]api.Verdict{"show": i.Show(t, name).Sync}
	for _, r := range list.Value {
		if r.Name == name {
			all["list"] = r.Sync
		}
	}
	if child.Sync != nil {
		all["what the site said"] = child.Sync.Verdict
	}
	for surface, got := range all {
		if diff := cmp.Diff(child.Verdict, got); diff != "" {
			t.Errorf("%s of %s is not as its sync status: %s", surface, name, diff)
		}
	}
	return child.Verdict
}

// wantVerdict checks the verdict on a registry, and that its items agree with it.
func (i *instance) wantVerdict(t *testing.T, when, name, status, reason string, items ...string) {
	t.Helper()
	v := i.everywhere(t, name)
	text := ""
	if v.Reason != nil {
		text = *v.Reason
	}
	if v.Status != status || v.InSync != (status == api.InSync) || !strings.Contains(text, reason) ||
		(reason == "") != (text == "") {
		t.Errorf("%s: %s (%q), want %s (%q)", when, v.Status, text, status, reason)
	}
	if v.AsOfTime == nil && status != api.Unknown {
		t.Errorf("%s: %s, without a time", when, v.Status)
	}
	i.wantItems(t, when, name, "", items...)
}

func TestVerdictAgreesWithItems(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a", "b")
		root.push(t, "a", "v1")
		root.push(t, "a", "v2")
		known := root.upTo(root.push(t, "b", "v1"))
		st := good("ship1")
		st.Watermarks = known
		root.receive(t, st)
		same := []string{"a v1 InSync", "a v2 InSync", "b v1 InSync"}
		root.wantVerdict(t, "everything is there", "ship1", "InSync", "", same...)
		root.push(t, "c", "v1")
		root.wantVerdict(t, "another repository changed", "ship1", "InSync", "", same...)
		root.push(t, "a", "v2")
		root.wantVerdict(t, "a tag moved", "ship1", "NotInSync", "changed here", "a v1 InSync", "a v2 Pending",
			"b v1 InSync")
		root.Call(t, "DELETE", "/repositories/b", nil).OK(t, nil)
		if err := root.Storage.DeleteTag(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
		root.wantVerdict(t, "a tag and a repository were deleted", "ship1", "NotInSync", "changed here",
			"a v1 ToRemove",
			"a v2 Pending", "b - ToRemove")
		st.Watermarks, st.ItemsSynced = root.upTo(root.head(t)), 1
		root.receive(t, st)
		root.wantVerdict(t, "it knows of the deletions", "ship1", "InSync", "", "a v2 InSync")
		if err := root.Storage.DeleteTag(t.Context(), "a", "v2"); err != nil {
			t.Fatal(err)
		}
		root.wantVerdict(t, "its last tag was deleted", "ship1", "NotInSync", "changed here", "a v2 ToRemove")
		root.Now = root.Now.Add(time.Hour)
		root.wantVerdict(t, "it is overdue", "ship1", "Unknown", "not heard", "a v2 ToRemove")
	})
}

func TestMissingSignatureIsNotInSync(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a")
		image := root.Push("a", storagetest.Index(), "v1")
		st := good("ship1")
		st.Watermarks = root.upTo(root.head(t))
		root.receive(t, st)
		root.wantVerdict(t, "everything is there", "ship1", "InSync", "", "a v1 InSync")
		signature := storagetest.Index()
		signature.Subject = &image
		root.Push("a", signature)
		root.wantVerdict(t, "a signature was pushed", "ship1", "NotInSync", "changed here",
			"a - Pending", "a v1 InSync")
		root.Push("a",
			storagetest.Manifest{MediaType: oci.MediaTypeImageIndex, Annotations: map[string]string{"of": "nothing"}})
		root.wantVerdict(t, "a manifest without a tag was pushed", "ship1", "NotInSync", "changed here", "a - Pending",
			"a - Pending", "a v1 InSync")
		st.Watermarks = root.upTo(root.head(t))
		root.receive(t, st)
		root.wantVerdict(t, "it knows of both", "ship1", "InSync", "", "a v1 InSync")
	})
}

func TestSilentRegistryIsUnknown(t *testing.T) {
	root := newRoot(t)
	ship, cabin := tree(t, root)
	cabin.LastSyncSuccess, ship.LastSyncSuccess = start, start
	root.receiveBoth(t, ship, cabin)
	same, unknown := []string{"a v1 InSync", "a v2 InSync"}, []string{"a v1 Unknown", "a v2 Unknown"}
	root.wantVerdict(t, "everything is there", "cabin1", "InSync", "", same...)
	heard := root.Now
	root.Now = heard.Add(20 * time.Minute)
	for _, name := range []string{"ship1", "cabin1"} {
		root.wantVerdict(t, "the link is down", name, "Unknown", "not heard", unknown...)
		if v := root.everywhere(t, name); !v.AsOfTime.Equal(heard) {
			t.Errorf("%s is unknown since %v, and was last heard at %v", name, v.AsOfTime, heard)
		}
	}
	var page struct{ Value []api.SyncItem }
	root.Call(t, "GET", "/connected-registries/ship1/sync-items?open=true", nil).OK(t, &page)
	if len(page.Value) != 2 || page.Value[0].Digest == nil || page.Value[0].LastMatchTime == nil ||
		!page.Value[0].LastMatchTime.Equal(heard) {
		t.Errorf("the last known state is missing: %+v", page.Value)
	}

	// A registry with a nightly schedule sends no report by day, and neither do its descendants.
	root.Call(t, "PATCH", "/connected-registries/ship1",
		object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}).OK(t, nil)
	root.receiveBoth(t, ship, cabin)
	root.Now = root.Now.Add(12 * time.Hour)
	for _, name := range []string{"ship1", "cabin1"} {
		root.wantVerdict(t, "by day", name, "InSync", "", same...)
	}
	root.Now = root.Now.Add(14 * time.Hour)
	for _, name := range []string{"ship1", "cabin1"} {
		root.wantVerdict(t, "after a night without a report", name, "Unknown", "not heard", unknown...)
	}
	cabin.At = root.Now.Add(-time.Hour)
	root.receive(t, ship, cabin)
	root.wantVerdict(t, "a descendant is overdue", "ship1", "InSync", "", same...)
	root.wantVerdict(t, "a descendant is overdue", "cabin1", "Unknown", "not heard", unknown...)
}

func TestRegistryThatCannotLogInIsUnknown(t *testing.T) {
	for _, test := range []struct {
		name, method, path string
		body               any
	}{
		{"its token is disabled", "PATCH", "/tokens/ship1", object{"status": "disabled"}},
		{"its password is deleted", "DELETE", "/tokens/ship1/credentials/password1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newRoot(t)
			root.activate(t, "ship1", "a")
			st := good("ship1")
			st.Watermarks = root.upTo(root.push(t, "a", "v1"))
			root.receive(t, st)
			root.wantVerdict(t, "before", "ship1", "InSync", "", "a v1 InSync")
			root.Call(t, test.method, test.path, test.body).OK(t, nil)
			root.wantVerdict(t, "after", "ship1", "Unknown", "its sync token", "a v1 Unknown")
		})
	}
}

func TestWrongClockOfAForwarderAgesNoReport(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.Connect(t, "Cabin1", "Ship01", "a")
	p.apply(t)
	p.ship.Now = start.Add(-25 * time.Hour)
	if err := p.ship.Activate(t.Context(), "Cabin1", "cabin", "v1", from); err != nil {
		t.Fatal(err)
	}
	p.ship.Now = p.ship.Now.Add(30 * time.Second)
	p.report(t)
	if v := p.root.descendantSync(t, "Cabin1"); v.AgeSeconds == nil || *v.AgeSeconds != 30 {
		t.Errorf("it is %v s old, want 30", v.AgeSeconds)
	}
}

func TestRemovedItemIsNotListed(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	st := good("Ship01")
	p.ship.Status = &st
	p.ship.Serve(t, management.Options{Syncer: idle{}})
	err := p.ship.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		for _, row := range []metadb.SyncItem{
			{Repository: "a", Item: "v1", Tag: "v1",
				State: replication.Synced}, // a sync was stopped before it deleted the row
			{Repository: "a", Item: "v2", Tag: "v2", State: replication.Synced, Digest: "sha256:x", SyncedAt: start},
		} {
			if err := tx.PutSyncItem(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Value []api.SyncItem }
	p.ship.Call(t, "GET", "/sync/items", nil).OK(t, &page)
	if len(page.Value) != 1 || *page.Value[0].Tag != "v2" {
		t.Errorf("%+v", page.Value)
	}
}

func TestItemOfADeletedRepositoryIsNotPending(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	root.receive(t, wire.Status{Name: "ship1", ItemsPending: 2, OutOfSync: []wire.OutOfSyncItem{
		{Repository: "a", Tag: "v1", Digest: "sha256:x"},
		{Repository: "a", Tag: "v2", Digest: "sha256:y", Here: "sha256:z"},
	}})
	root.wantItems(t, "it was deleted here", "ship1", "", "a v2 ToRemove")
}
