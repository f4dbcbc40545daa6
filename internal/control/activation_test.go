package control_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
)

// Whatever the order of activations, deactivations, syncs and reports across
// two levels: at most one instance holds a connected registry, it loses it
// only by a deactivation, and once both levels have talked they agree.
func TestActivationsAgreeAcrossLevels(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.connect(t, "Cabin1", "Ship01", "a")
	p.apply(t)
	instances := []string{"one", "two", "three"}
	rapid.Check(t, func(rt *rapid.T) {
		holder := func() (all []string) {
			for _, i := range instances {
				if err := p.ship.Report(t.Context(), "Cabin1", i, nil); err == nil {
					all = append(all, i)
				} else if !errors.Is(err, gateway.ErrNotActivated) {
					rt.Fatal(err)
				}
			}
			return all
		}
		p.apply(t) // what the last run left
		pending := false // a deactivation that the level between does not know of
		rt.Repeat(map[string]func(*rapid.T){
			"activate": func(rt *rapid.T) {
				before, who := holder(), rapid.SampledFrom(instances).Draw(rt, "who")
				err := p.ship.Activate(t.Context(), "Cabin1", who, "v1")
				if free := len(before) == 0 || slices.Contains(before, who); free != (err == nil) {
					rt.Fatalf("%s activates, %v holds it: %v", who, before, err)
				}
			},
			"deactivate": func(*rapid.T) {
				p.root.call(t, "POST", "/connected-registries/Cabin1/deactivate", nil).ok(t, nil)
				pending = true
			},
			"apply": func(rt *rapid.T) {
				before := holder()
				p.apply(t)
				if after := holder(); pending && len(after) != 0 || !pending && !slices.Equal(before, after) {
					rt.Fatalf("%v held it, now %v; deactivated: %t", before, after, pending)
				}
				pending = false
			},
			"report": func(*rapid.T) { p.report(t) },
			"settle": func(rt *rapid.T) {
				p.apply(t)
				p.report(t)
				pending = false
				want := "Inactive"
				if len(holder()) > 0 {
					want = "Active"
				}
				if got := p.root.show(t, "Cabin1").Activation.Status; got != want {
					rt.Fatalf("the root says %s, want %s", got, want)
				}
			},
			"": func(rt *rapid.T) {
				if all := holder(); len(all) > 1 {
					rt.Fatalf("%v hold it", all)
				}
			},
		})
	})
}
