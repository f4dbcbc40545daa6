package fleet_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// At most one instance holds an activation, it loses it only by a deactivation, and both levels
// agree after they have exchanged messages: in any order of activations, deactivations, syncs and
// reports.
func TestActivationsAgreeAcrossLevels(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.Connect(t, "Cabin1", "Ship01", "a")
	p.apply(t)
	instances := []string{"one", "two", "three"}
	rapid.Check(t, func(rt *rapid.T) {
		// holder is the activated instance as the level between knows it; "" is none.
		holder := func() string {
			all, err := p.ship.Descendants(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			if len(all) == 0 {
				return ""
			}
			return all[0].InstanceID
		}
		p.apply(t)       // the state that the last run left
		pending := false // a deactivation that the level between does not know of
		steps := map[string]func(*rapid.T){
			"activate": func(rt *rapid.T) {
				before, instance := holder(), rapid.SampledFrom(instances).Draw(rt, "instance")
				err := p.ship.Activate(t.Context(), "Cabin1", instance, "v1", from)
				if free := before == "" || before == instance; free != (err == nil) {
					rt.Fatalf("%s activates, %q holds it: %v", instance, before, err)
				}
				for _, i := range instances {
					err := p.ship.Report(t.Context(), "Cabin1", i, nil)
					if holds := i == holder(); holds != (err == nil) || err != nil &&
						!errors.Is(err, gateway.ErrNotActivated) {
						rt.Fatalf("%s reports, %q holds it: %v", i, holder(), err)
					}
				}
			},
			"deactivate": func(rt *rapid.T) {
				if _, err := p.root.Deactivate(t.Context(), control.Caller{Name: "admin"}, "Cabin1"); err != nil {
					rt.Fatal(err)
				}
				pending = true
			},
			"apply": func(rt *rapid.T) {
				before := holder()
				p.apply(t)
				if after := holder(); pending && after != "" || !pending && after != before {
					rt.Fatalf("%q held it, now %q; deactivated: %t", before, after, pending)
				}
				pending = false
			},
			"report": func(*rapid.T) { p.report(t) },
			"settle": func(rt *rapid.T) {
				p.apply(t)
				p.report(t)
				pending = false
				want := "Inactive"
				if holder() != "" {
					want = "Active"
				}
				r, err := p.root.Get(t.Context(), control.Caller{}, "Cabin1")
				if err != nil || r.Activation.Status != want {
					rt.Fatalf("the root says %s, want %s: %v", r.Activation.Status, want, err)
				}
			},
		}
		// Shorter than rapid's own histories, which take it a minute under the
		// race detector.
		names := slices.Sorted(maps.Keys(steps))
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 12).Draw(rt, "history") {
			steps[name](rt)
		}
	})
}

func TestActivationIsAuditedWithItsAddress(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	entries, err := metadb.Read(t.Context(), root.DB, func(tx *metadb.Tx) ([]metadb.AuditEntry, error) {
		return tx.Audit(metadb.AuditQuery{Limit: 1})
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := entries[0]; e.Action != "activate" || e.Actor != "ship1" || e.Sender != "192.0.2.7" {
		t.Errorf("%+v", e)
	}
}
