package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestChangesAreFetchedWithinTheSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.push("apps/nav", "1", "v1", 1000)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"*"}})
		root.prefer("ship1", "ops/*=urgent")
		ship := root.child("ship1")
		root.spread.Store(int64(10 * time.Minute))
		start := time.Now()
		root.start(ship, c)
		await(t, "the site is in sync", func() bool { return ship.agent.Status().SyncState == "Succeeded" })
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the first sync took %v; it is not spread", took)
		}
		time.Sleep(time.Minute)

		// The time of each change is random. Three that come at once are not spread.
		soon := 0
		for i, seed := range []string{"2", "3", "4"} {
			v2 := root.push("apps/nav", seed, "v2", 1000+i)
			start = time.Now()
			ship.awaitTag("apps/nav", "v2", v2)
			took := time.Since(start)
			if took > 10*time.Minute+10*time.Second {
				t.Errorf("the change came after %v, want it within 10 minutes", took)
			}
			if took < 5*time.Second {
				soon++
			}
			time.Sleep(time.Minute)
		}
		if soon == 3 {
			t.Error("no change was delayed")
		}
		root.push("apps/nav", "5", "v2", 1000)
		time.Sleep(time.Second)
		urgent := root.push("ops/charts", "6", "v1", 1000)
		start = time.Now()
		ship.awaitTag("ops/charts", "v1", urgent)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the urgent image came after %v", took)
		}
	})
}
