package fleet_test

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

// A process is a root that other processes share, with the follower of its database.
type process struct {
	*instance
	follower *metadb.Follower
}

// processes returns the root of n processes.
func processes(t *testing.T, n int) (all []process) {
	t.Helper()
	for _, db := range dbtest.Processes(t, n) {
		f, err := db.Follow(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		p := process{newInstance(t, db, ""), f}
		for _, apply := range []func(*metadb.Tx, metadb.Changes) error{
			p.Control.Follow, p.Service.Follow, p.Storage.Follow, p.Events.Follow,
		} {
			f.Apply(apply)
		}
		if len(all) > 0 {
			p.Password = all[0].Password
		}
		all = append(all, p)
	}
	return all
}

func (p process) catchUp(t *testing.T) {
	t.Helper()
	if err := p.follower.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTokenRevokedElsewhereIsRefusedAtOnce(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	a.PutScopeMap(t, "m", "repositories/a/content/read")
	password := a.PutToken(t, "tok", "m")
	b.catchUp(t)
	if !b.MayLogIn(t, "tok", password) {
		t.Error("a token of another process is refused")
	}
	b.Call(t, "PATCH", "/tokens/tok", object{"status": "disabled"}).OK(t, nil)
	a.catchUp(t)
	if a.MayLogIn(t, "tok", password) {
		t.Error("a token that another process has disabled logs in")
	}
	for n := range 3 { // each process writes on the other's state
		a.PutScopeMap(t, "m", "repositories/a/content/read")
		b.PutScopeMap(t, "m", "repositories/b/content/read")
		a.catchUp(t)
		if got := a.Control.State().Version(); got != b.Control.State().Version() {
			t.Errorf("after round %d, the processes have the versions %d and %d", n, got,
				b.Control.State().Version())
		}
		if got := a.Control.State().ScopeMap("m").Actions[0]; got != "repositories/b/content/read" {
			t.Errorf("after round %d, the scope map has %s", n, got)
		}
	}
}

func TestWriteIsCheckedAgainstWritesOfOtherProcesses(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	a.Connect(t, "ship01", "", "a")
	if err := a.Activate(t.Context(), "ship01", "instance-1", "v1", ""); err != nil {
		t.Fatal(err)
	}
	b.catchUp(t)
	a.Call(t, "POST", "/connected-registries/ship01/deactivate", nil).OK(t, nil)
	// The process b has not heard of that yet.
	if err := b.Activate(t.Context(), "ship01", "instance-2", "v1", ""); err != nil {
		t.Errorf("an activation after a deactivation at another process: %v", err)
	}
	if err := a.Activate(t.Context(), "ship01", "instance-3", "v1", ""); err == nil {
		t.Error("a second activation, after one at another process, succeeds")
	}
}

func TestChangeOfAnotherProcessWakesHeldPolls(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	a.Connect(t, "ship01", "", "a")
	a.Connect(t, "ship02", "", "b")
	b.catchUp(t)
	one, two := b.Changed("ship01"), b.Changed("ship02")
	before, err := b.Desired(t.Context(), "ship01")
	if err != nil {
		t.Fatal(err)
	}
	a.Call(t, "PATCH", "/connected-registries/ship01", object{"logLevel": "Debug"}).OK(t, nil)
	b.catchUp(t)
	<-one
	if after, err := b.Desired(t.Context(), "ship01"); err != nil || after.Version == before.Version {
		t.Errorf("the desired state is still that of version %s, %v", before.Version, err)
	}
	select {
	case <-two:
		t.Error("a poll of another registry is woken")
	default:
	}
}

func TestReportsReachEveryProcess(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	a.Connect(t, "ship01", "", "a")
	if err := a.Activate(t.Context(), "ship01", "i", "v1", ""); err != nil {
		t.Fatal(err)
	}
	report := func(p process, items int) {
		t.Helper()
		p.catchUp(t)
		r := &wire.Report{Self: wire.Status{Name: "ship01", InstanceID: "i", State: "Online", ItemsSynced: items}}
		if err := p.Report(t.Context(), "ship01", "i", r); err != nil {
			t.Fatal(err)
		}
	}
	synced := func(p process) int {
		t.Helper()
		p.catchUp(t)
		all, err := p.Descendants(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("descendants are %v, %v", all, err)
		}
		return all[0].ItemsSynced
	}
	for n := int(1); n < 4; n++ {
		a.Now, b.Now = a.Now.Add(time.Minute), b.Now.Add(time.Minute)
		report(a, 10*n)
		if got := synced(b); got != 10*n {
			t.Errorf("the other process knows of %d items, not %d", got, 10*n)
		}
		report(b, 10*n+1)
		if got := synced(a); got != 10*n+1 {
			t.Errorf("the other process knows of %d items, not %d", got, 10*n+1)
		}
	}
	// A poll without a report at one process, and a later report at the other.
	a.Now = a.Now.Add(time.Second)
	if err := a.Report(t.Context(), "ship01", "i", nil); err != nil {
		t.Fatal(err)
	}
	b.Now = b.Now.Add(time.Minute)
	report(b, 99)
	if err := a.SaveSeen(t.Context()); err != nil { // it has not heard of that yet
		t.Fatal(err)
	}
	row, err := metadb.Read(t.Context(), a.DB, func(tx *metadb.Tx) (metadb.ConnectedRegistry, error) {
		return tx.ConnectedRegistry("ship01")
	})
	var stored struct{ Status wire.Status }
	if err == nil {
		err = json.Unmarshal(row.Status, &stored)
	}
	if err != nil || stored.Status.ItemsSynced != 99 {
		t.Errorf("an older report is stored: %s, %v", row.Status, err)
	}
	if got := synced(a); got != 99 {
		t.Errorf("the process that had the older report knows of %d items", got)
	}
}
