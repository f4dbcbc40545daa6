package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

// nightly is a schedule with a window of an hour, at 2 in the morning. The tests begin at midnight.
func nightly() api.Settings {
	cron, window := "0 2 * * *", "PT1H"
	return api.Settings{Schedule: &cron, SyncWindow: &window}
}

func TestClosedWindowMakesNoConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first) // in the window that the activation opens

		time.Sleep(61 * time.Minute)
		root.link.cut()
		root.link.restore() // with all connections closed
		dials, requests := root.link.dialled(), root.requests.Load()
		second := root.push("app/a", "2", "v1", large)
		time.Sleep(55 * time.Minute)
		if root.link.dialled() != dials || root.requests.Load() != requests {
			t.Errorf("%d dials and %d requests outside of the window, want none", root.link.dialled()-dials,
				root.requests.Load()-requests)
		}
		if !ship.serves("app/a", "v1", first) {
			t.Error("the image moved outside of the window")
		}
		time.Sleep(5 * time.Minute) // it is past 2
		if !ship.serves("app/a", "v1", second) {
			t.Error("the image did not move inside of the window")
		}
		third := root.push("app/a", "3", "v1", large)
		time.Sleep(time.Minute)
		if !ship.serves("app/a", "v1", third) {
			t.Error("what changes while the window is open does not follow")
		}
	})
}

func TestSyncCutByItsWindowResumesItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 10 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", api.RegistryPut{Settings: nightly()})
		ship := root.child("ship1")
		root.rate.Store(75) // on each connection
		root.start(ship, c)
		time.Sleep(59 * time.Minute)
		if s := ship.agent.Status(); s.State != "Syncing" || s.SyncState != "Syncing" {
			t.Errorf("state = %s, %s; want Syncing", s.State, s.SyncState)
		}
		time.Sleep(2 * time.Minute)
		if s := ship.agent.Status(); s.State != "Online" || s.SyncState != "TimedOut" || s.ItemsPending != 1 {
			t.Errorf("after the window: %s, %s, %d pending; want Online, Pending, 1", s.State, s.SyncState,
				s.ItemsPending)
		}
		root.rate.Store(0)
		before := root.sent.Load()
		time.Sleep(time.Hour)
		ship.awaitTag("app/a", "v1", d)
		if sent := root.sent.Load() - before; sent > size-before+1<<20 {
			t.Errorf("%d bytes came in the first window and %d in the second, of %d", before, sent, size)
		}
	})
}

func TestChangedScheduleAppliesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first)
		always := "* * * * *"
		root.update("ship1", api.Settings{Schedule: &always})
		time.Sleep(90 * time.Minute) // the first window would have closed
		second := root.push("app/a", "2", "v1", 10)
		ship.awaitTag("app/a", "v1", second)
	})
}

func TestFirstWindowSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first)
		ship.stop()
		second := root.push("app/a", "2", "v1", 10)
		ship.restart()
		ship.awaitTag("app/a", "v1", second)
		ship.stop()

		time.Sleep(time.Hour)
		requests := root.requests.Load()
		root.push("app/a", "3", "v1", 10)
		ship.restart()
		time.Sleep(30 * time.Minute)
		if n := root.requests.Load() - requests; n > 0 || !ship.serves("app/a", "v1", second) {
			t.Errorf("%d requests after a restart outside of the window, want none", n)
		}
	})
}

func TestSyncCutByARestartResumesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.rate.Store(10_000)
		stop := root.start(ship, c)
		time.Sleep(30 * time.Second)
		stop()
		before := root.sent.Load()
		root.rate.Store(0)
		root.start(ship, c)
		time.Sleep(time.Second)
		if !ship.serves("app/a", "v1", d) {
			t.Error("the image is not here a second after the restart")
		}
		if sent := root.sent.Load(); before == 0 || sent > size+64<<10 {
			t.Errorf("%d of %d bytes came before the restart, %d in all", before, size, sent)
		}
	})
}

// A clock that is set while the agent waits for a window counts within a minute. A window that the
// step skips is missed.
func TestClockChangesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first)
		time.Sleep(70 * time.Minute) // it is past 1, and the first window closed
		second := root.push("app/a", "2", "v1", 10)
		ship.ahead.Store(int64(70 * time.Minute)) // past 2
		time.Sleep(2 * time.Minute)
		if !ship.serves("app/a", "v1", second) {
			t.Error("two minutes after the clock was set into a window, nothing came")
		}
		ship.ahead.Store(int64(5 * time.Hour)) // past its end
		time.Sleep(2 * time.Minute)
		fourth := root.push("app/a", "4", "v1", 10)
		time.Sleep(time.Hour)
		if ship.serves("app/a", "v1", fourth) {
			t.Error("two minutes after the clock was set out of the window, it was still open")
		}
		ship.ahead.Store(int64(-time.Hour)) // and back: the window comes again
		time.Sleep(2 * time.Hour)
		if !ship.serves("app/a", "v1", fourth) {
			t.Error("the window did not come again after the clock was set back")
		}
	})
}

// If a machine was off when a window opened, the rest of the window still counts. A window that was
// missed completely is not repeated.
func TestMissedTickOpensTheRestOfItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first)
		ship.stop()
		second := root.push("app/a", "2", "v1", 10)
		time.Sleep(150 * time.Minute) // it is 2:30
		ship.restart()
		time.Sleep(time.Minute)
		if !ship.serves("app/a", "v1", second) {
			t.Error("nothing came in what was left of the window")
		}
		ship.stop()
		third := root.push("app/a", "3", "v1", 10)
		time.Sleep(25 * time.Hour) // it is 3:31 of the next day
		ship.restart()
		time.Sleep(time.Hour)
		if ship.serves("app/a", "v1", third) {
			t.Error("a window that was missed completely was repeated")
		}
		time.Sleep(22 * time.Hour)
		if !ship.serves("app/a", "v1", third) {
			t.Error("nothing came in the next window")
		}
	})
}

// A narrower schedule closes the open window at once, while a sync runs. The sync goes on from the
// same byte in the next window.
func TestNarrowedScheduleStopsARunningSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.rate.Store(100)
		root.start(ship, c)
		time.Sleep(70 * time.Minute) // the window of its activation would be over
		root.update("ship1", nightly())
		time.Sleep(10 * time.Second)
		if s := ship.agent.Status(); s.SyncState != "TimedOut" || s.NextSync.IsZero() {
			t.Errorf("after the schedule narrowed: %s, next %v", s.SyncState, s.NextSync)
		}
		before := root.sent.Load()
		root.rate.Store(0)
		time.Sleep(40 * time.Minute)
		if root.sent.Load() != before {
			t.Error("bytes came outside of the window")
		}
		time.Sleep(15 * time.Minute) // it is past 2
		ship.awaitTag("app/a", "v1", d)
		if again := root.sent.Load() - size; again > 1<<20 {
			t.Errorf("%d bytes came twice", again)
		}
	})
}

// A window that an operator asks for is as long as the schedule's windows, even if another opens
// meanwhile. Windows that are longer than the schedule's interval never close.
func TestWindowsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		time.Sleep(50 * time.Minute)
		ship.agent.SyncNow(t.Context()) // until 1:50
		time.Sleep(30 * time.Minute)
		d := root.push("app/a", "1", "v1", 10)
		ship.awaitTag("app/a", "v1", d)
		time.Sleep(31 * time.Minute) // it is 1:51
		if s := ship.agent.Status(); s.NextSync.IsZero() {
			t.Error("the window that an operator asked for is still open after an hour")
		}
		hourly, long := "0 * * * *", "PT90M"
		ship.agent.SyncNow(t.Context())
		time.Sleep(time.Minute)
		root.update("ship1", api.Settings{Schedule: &hourly, SyncWindow: &long})
		time.Sleep(3 * time.Hour)
		for range 12 {
			time.Sleep(10 * time.Minute)
			if s := ship.agent.Status(); !s.NextSync.IsZero() {
				t.Fatalf("at %v no window is open", time.Now())
			}
		}
	})
}
