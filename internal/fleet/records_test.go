package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

func recordsAt(t *testing.T, root *fleettest.Instance) (events []metadb.Event, audit []metadb.AuditEntry) {
	t.Helper()
	err := root.DB.View(t.Context(), func(tx *metadb.Tx) (err error) {
		if events, err = tx.Events(metadb.EventQuery{Limit: metadb.NoLimit}); err != nil {
			return err
		}
		audit, err = tx.Audit(metadb.AuditQuery{Action: "now", Limit: 100})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, audit
}

func TestChildSendsOnlyRecordsOfItsSubtree(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Ship02", "", "a")
	root.Connect(t, "Boat01", "Ship01", "a")
	enabled := map[string]any{"auditLogsEnabled": true}
	root.Call(t, "PATCH", "/connected-registries/Boat01", enabled).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/Ship02", enabled).OK(t, nil)
	var events []wire.Event
	var audit []wire.AuditEntry
	for i, name := range []string{"Ship01", "boat01", "Ship02", "nosuch", ""} {
		id := fmt.Sprint(i, "-1")
		events = append(events, wire.Event{ID: id, Registry: name, Type: "push", Repository: "a", Tag: "v1"})
		audit = append(audit, wire.AuditEntry{ID: id, Registry: name, Action: "now", Object: "sync"})
	}
	events = append(events, wire.Event{ID: "9", Registry: "Ship01", Type: "push", Repository: "../a", Tag: "v1"})
	for range 2 { // it sends them again
		stored, err := root.Receive(t.Context(), "Ship01", events, audit)
		if err != nil || stored != (wire.Stored{Events: 6, Audit: 5}) {
			t.Fatal(stored, err)
		}
	}
	got, entries := recordsAt(t, root)
	if len(got) != 2 || got[1].Registry != "Ship01" || got[0].Registry != "Boat01" {
		t.Errorf("events %+v", got)
	}
	if len(entries) != 1 || entries[0].Registry != "Boat01" {
		t.Errorf("audit entries %+v", entries)
	}
}

func TestFloodOfRecordsIsBounded(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Connect(t, "Ship02", "", "a")
	send := func(child string, n int) int {
		var all []wire.Event
		for i := range 200 {
			id := fmt.Sprint(n, "-", i)
			all = append(all, wire.Event{ID: id, Registry: child, Type: "push", Repository: "a", Tag: "v"})
		}
		stored, err := root.Receive(t.Context(), child, all, nil)
		if err != nil {
			t.Fatal(err)
		}
		return stored.Events
	}
	sum := 0
	for n := range 50 {
		sum += send("Ship01", n)
	}
	if sum != 5000 {
		t.Errorf("%d events were stored at once", sum)
	}
	if n := send("Ship02", 0); n != 200 {
		t.Errorf("%d events of another child were stored", n)
	}
	root.Now = root.Now.Add(2 * time.Second)
	if n := send("Ship01", 99); n != 100 {
		t.Errorf("%d events were stored after 2 s", n)
	}
}

func TestAuditOfDescendantsPushesOutNoOwnEntry(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.Connect(t, "Ship01", "", "a")
	root.Call(t, "PATCH", "/connected-registries/Ship01", map[string]any{"auditLogsEnabled": true}).OK(t, nil)
	err := root.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		for i := range 50 {
			e := metadb.AuditEntry{Registry: "Ship01", Origin: fmt.Sprint(i), Action: "now", Object: "sync",
				At: root.Now}
			if err := tx.AddAuditOf(e); err != nil {
				return err
			}
		}
		if err := tx.TrimAudit("Ship01", 10); err != nil {
			return err
		}
		return tx.TrimAuditLog(time.Time{}, 5)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, entries := recordsAt(t, root)
	var own struct{ Value []struct{ Action string } }
	root.Call(t, "GET", "/audit-log?connectedRegistry=.&resource=connected-registries/Ship01", nil).OK(t, &own)
	if len(entries) != 5 || len(own.Value) != 2 {
		t.Errorf("%d entries of Ship01, %d of the root", len(entries), len(own.Value))
	}
}
