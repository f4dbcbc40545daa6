package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/control"
)

// nightly is a schedule with a window of an hour, at 2 in the morning. The
// tests' clocks begin at midnight.
func nightly() control.Settings {
	cron, window := "0 2 * * *", "PT1H"
	return control.Settings{SyncSchedule: &cron, SyncWindow: &window}
}

func TestNothingIsDialledOutsideOfWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", large)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}, Settings: nightly()})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.awaitTag("app/a", "v1", first) // in the window that activation opens at once

		time.Sleep(61 * time.Minute)
		root.link.cut()
		root.link.restore() // without connections that were left open
		dials, requests := root.link.dialled(), root.requests.Load()
		second := root.push("app/a", "2", "v1", large)
		time.Sleep(55 * time.Minute)
		if root.link.dialled() != dials || root.requests.Load() != requests {
			t.Errorf("%d dials and %d requests outside of the window, want none", root.link.dialled()-dials, root.requests.Load()-requests)
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

func TestSyncThatAWindowCutsShortGoesOnFromTheSameByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 10 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}, Settings: nightly()})
		ship := root.child("ship1")
		root.rate.Store(75) // on each connection
		root.start(ship, c)
		time.Sleep(59 * time.Minute)
		if s := ship.agent.Status(); s.State != "Syncing" || s.SyncState != "Syncing" {
			t.Errorf("state = %s, %s; want Syncing", s.State, s.SyncState)
		}
		time.Sleep(2 * time.Minute)
		if s := ship.agent.Status(); s.State != "Online" || s.SyncState != "Pending" || s.ItemsPending != 1 {
			t.Errorf("after the window: %s, %s, %d pending; want Online, Pending, 1", s.State, s.SyncState, s.ItemsPending)
		}
		root.rate.Store(0)
		before := root.sent.Load()
		time.Sleep(time.Hour)
		ship.awaitTag("app/a", "v1", d)
		if sent := root.sent.Load() - before; sent > size-before+1<<20 {
			t.Errorf("%d bytes crossed in the first window and %d in the second, of %d", before, sent, size)
		}
	})
}

func TestScheduleThatChangesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}, Settings: nightly()})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.awaitTag("app/a", "v1", first)
		always := "* * * * *"
		root.update("ship1", control.Settings{SyncSchedule: &always})
		time.Sleep(90 * time.Minute) // the first window would have closed
		second := root.push("app/a", "2", "v1", 10)
		ship.awaitTag("app/a", "v1", second)
	})
}

func TestRestartKeepsTheFirstWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}, Settings: nightly()})
		ship := root.child("ship1")
		stop := root.start(ship, c)
		ship.awaitTag("app/a", "v1", first)
		stop()
		second := root.push("app/a", "2", "v1", 10)
		stop = root.start(ship, c)
		ship.awaitTag("app/a", "v1", second)
		stop()

		time.Sleep(time.Hour)
		requests := root.requests.Load()
		root.push("app/a", "3", "v1", 10)
		root.start(ship, c)
		time.Sleep(30 * time.Minute)
		if n := root.requests.Load() - requests; n > 0 || !ship.serves("app/a", "v1", second) {
			t.Errorf("%d requests after a restart outside of the window, want none", n)
		}
	})
}

func TestSyncThatARestartCutsShortGoesOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}})
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
			t.Errorf("%d of %d bytes crossed before the restart, %d in all", before, size, sent)
		}
	})
}
