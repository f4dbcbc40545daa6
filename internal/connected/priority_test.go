package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

// prefer sets the priorities of a connected registry.
func (s *instance) prefer(name string, priorities ...string) {
	s.T.Helper()
	s.update(name, api.Settings{Priorities: priorities})
}

func TestUrgentRepositoriesSyncWithASpentBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 5 << 20
		budget := "2MiB/day"
		root := newRoot(t)
		large := root.push("media/film", "1", "v1", size)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"*"}, Settings: api.Settings{ByteBudget: &budget}})
		root.prefer("ship1", "ops/*=urgent")
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(time.Hour)
		s := ship.agent.Status()
		if s.SyncState != "Pending" || len(s.Details) != 1 || s.Details[0].Code != "BudgetSpent" {
			t.Fatalf("status = %+v, want one that says that the budget is spent", s)
		}
		spent := root.sent.Load()
		urgent := root.push("ops/charts", "2", "v1", size)
		other := root.push("media/song", "3", "v1", size)
		ship.awaitTag("ops/charts", "v1", urgent)
		time.Sleep(time.Hour)
		if more := root.sent.Load() - spent; more < size || more > size+size/10 {
			t.Errorf("%d bytes came after the budget was spent, want the %d that are urgent", more, size)
		}
		if s = ship.agent.Status(); s.SyncState != "Pending" || s.ItemsPending != 2 || s.ItemsFailed != 0 {
			t.Errorf("status = %+v, want one with two items that wait", s)
		}
		if requests := root.requests.Load(); requests > 300 {
			t.Errorf("%d requests in two hours, want about one a minute", requests)
		}

		// A repository that becomes urgent is fetched at once, and one that no longer is waits.
		root.prefer("ship1", "media/song=urgent")
		ship.awaitTag("media/song", "v1", other)
		if ship.serves("media/film", "v1", large) {
			t.Error("what is not urgent came, too")
		}
		none := ""
		root.update("ship1", api.Settings{ByteBudget: &none})
		ship.awaitTag("media/film", "v1", large)
		await(t, "the site is in sync", func() bool { return ship.agent.Status().SyncState == "Succeeded" })
	})
}

func TestChangedPrioritiesApplyToTheRunningSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		large := root.push("media/film", "1", "v1", 4<<20)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"*"}})
		ship := root.child("ship1")
		root.rate.Store(8_000) // on each connection
		root.start(ship, c)
		time.Sleep(10 * time.Second)
		small := root.push("ops/charts", "2", "v1", 100_000)
		root.prefer("ship1", "ops/*=high")
		start := time.Now()
		ship.awaitTag("ops/charts", "v1", small)
		if ship.serves("media/film", "v1", large) {
			t.Errorf("the large image was first; the other came after %v", time.Since(start))
		}
		ship.awaitTag("media/film", "v1", large)
	})
}
