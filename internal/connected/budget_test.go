package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestSpentBudgetDelaysSyncsToTheNextPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 5 << 20
		budget := "2MiB/day"
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Settings: api.Settings{ByteBudget: &budget}})
		ship := root.child("ship1")
		time.Sleep(23 * time.Hour)
		stop := root.start(ship, c)
		const room = 512 << 10 // in the buffers of the link when the budget ends
		for day := range int64(2) {
			time.Sleep(20 * time.Minute)
			stop() // a restart adds nothing to the budget
			stop = root.start(ship, c)
			time.Sleep(20 * time.Minute)
			want := (day + 1) * 2 << 20
			if sent := root.sent.Load(); sent < want-room || sent > want+(day+1)*room {
				t.Errorf("%d bytes by the end of day %d, want %d", sent, day+1, want)
			}
			s := ship.agent.Status()
			next := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
			if s.SyncState != "Pending" || s.State != "Online" || len(s.Details) != 1 ||
				s.Details[0].Code != "BudgetSpent" || !s.NextSync.Equal(next) {
				t.Errorf("status = %+v, want one that says that the budget is spent", s)
			}
			if day == 0 {
				time.Sleep(25 * time.Minute) // into the next day
			}
		}
		if requests := root.requests.Load(); requests > 400 {
			t.Errorf("%d requests in two hours, want about one a minute", requests)
		}
		none := ""
		root.update("ship1", api.Settings{ByteBudget: &none})
		ship.awaitTag("app/a", "v1", d)
	})
}

func TestLiftedBudgetAppliesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := "1MiB/day"
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 5<<20)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"*"}, Settings: api.Settings{ByteBudget: &budget}})
		root.prefer("ship1", "ops/*=urgent")
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(10 * time.Minute)
		for _, seed := range []string{"2", "3", "4"} { // in one sync each
			ship.awaitTag("ops/charts", "v1", root.push("ops/charts", seed, "v1", large))
			time.Sleep(10 * time.Second)
		}
		none := ""
		root.update("ship1", api.Settings{ByteBudget: &none})
		time.Sleep(5 * time.Second)
		if !ship.serves("app/a", "v1", d) {
			t.Errorf("five seconds after the budget was lifted: %+v", ship.agent.Status())
		}
	})
}

func TestMonthlyBudgetCountsBytesOfTheDailyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daily, monthly := "2MiB/day", "2MiB/month"
		root := newRoot(t)
		root.push("app/a", "1", "v1", 5<<20)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"*"}, Settings: api.Settings{ByteBudget: &daily}})
		ship := root.child("ship1")
		time.Sleep(23 * time.Hour)
		root.start(ship, c)
		time.Sleep(30 * time.Minute)
		before := root.sent.Load()
		root.update("ship1", api.Settings{ByteBudget: &monthly})
		time.Sleep(90 * time.Minute) // it is another day
		if n := root.sent.Load() - before; n > 0 {
			t.Errorf("%d bytes came after the budget of the month was spent by the day", n)
		}
	})
}

// The bytes of an image that waits stay known while another image is fetched, and after a restart.
func TestStatusKeepsBytesOfAStoppedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 5 << 20
		budget := "2MiB/day"
		root := newRoot(t)
		root.push("media/film", "1", "v1", size)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"*"}, Settings: api.Settings{ByteBudget: &budget}})
		root.prefer("ship1", "ops/*=urgent")
		ship := root.child("ship1")
		stop := root.start(ship, c)
		check := func(when string, total int64) {
			t.Helper()
			s := ship.agent.Status()
			if s.BytesTotal != total || s.BytesDone < total-size+1<<20 || s.BytesDone >= total {
				t.Errorf("%s: %d of %d bytes are here, want some MiB of %d", when, s.BytesDone, s.BytesTotal, total)
			}
			all, err := ship.agent.InFlight(t.Context())
			if err != nil || len(all) != 1 || all[0].Repository != "media/film" || all[0].BytesTotal != size ||
				all[0].BytesDone < 1<<20 {
				t.Errorf("%s: %+v, %v; want the film with what is here of it", when, all, err)
			}
		}
		time.Sleep(time.Hour)
		check("with the budget spent", size)
		ship.awaitTag("ops/charts", "v1", root.push("ops/charts", "2", "v1", large))
		time.Sleep(time.Minute)
		check("after an urgent sync", size+large)
		ship.agent.Pause(t.Context())
		stop()
		ship.engine = ship.newEngine()
		root.start(ship, c)
		check("after a restart", size)
	})
}

// TestWrongClockAllowsNoSecondBudget starts a machine whose clock is decades behind until it is
// set.
func TestWrongClockAllowsNoSecondBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := "2MiB/day"
		root := newRoot(t)
		root.push("app/a", "1", "v1", 12<<20)
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"*"}, Settings: api.Settings{ByteBudget: &budget}})
		ship := root.child("ship1")
		time.Sleep(2 * time.Hour)
		stop := root.start(ship, c)
		for range 3 {
			time.Sleep(20 * time.Minute)
			stop()
			ship.ahead.Store(int64(-20 * 365 * 24 * time.Hour))
			stop = root.start(ship, c)
			time.Sleep(20 * time.Minute)
			ship.ahead.Store(0)
		}
		time.Sleep(20 * time.Minute)
		if sent := root.sent.Load(); sent > 2<<20+512<<10 {
			t.Errorf("%d bytes came on the first day, want 2 MiB", sent)
		}
	})
}
