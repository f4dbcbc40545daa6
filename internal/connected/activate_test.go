package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestSecondInstanceRetriesUntilTheFirstIsDeactivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		first, second := root.child("ship1"), root.child("ship1")
		stop := root.start(first, c)
		first.awaitTag("app/a", "v1", d)
		stop()

		root.start(second, c)
		time.Sleep(time.Hour)
		if !second.serves("app/a", "v1", "") {
			t.Fatal("the second instance got in")
		}
		if n := second.log.count("parent refuses this registry"); n != 1 {
			t.Errorf("the log says %d times that the parent refuses, want once", n)
		}
		if want := "ferry connected-registry deactivate -n ship1 -r "; !strings.Contains(second.log.String(), want) {
			t.Errorf("the log has no %q", want)
		}
		if s := second.agent.Status(); s.SyncState != "NotActivated" {
			t.Errorf("sync state = %s, want NotActivated", s.SyncState)
		}
		if _, err := root.fleet.Deactivate(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		second.awaitTag("app/a", "v1", d)
	})
}

func TestRefusedInstanceRetriesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		c.Password = "wrong"
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(24 * time.Hour)
		if n := root.requests.Load(); n < 200 || n > 500 {
			t.Errorf("%d requests in a day, want one about every five minutes", n)
		}
		if log := ship.log.String(); strings.Contains(log, "wrong") && strings.Contains(log, c.Password+";") {
			t.Error("the log has the password")
		}
	})
}

func TestAgentOutlivesALinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.link.cut()
		root.start(ship, c)
		time.Sleep(24 * time.Hour)
		if n := root.link.dialled(); n < 1000 || n > 2500 {
			t.Errorf("%d dials in a day without a link, want one about every minute", n)
		}
		root.link.restore()
		ship.awaitTag("app/a", "v1", d)
	})
}

func TestNextTryNoticesThatTheLinkIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.awaitTag("app/a", "v1", d)
		time.Sleep(time.Minute)
		root.link.cut()
		time.Sleep(time.Hour)
		root.link.restore()
		time.Sleep(79 * time.Second) // the longest pause; a poll that is held would take another minute
		if n := ship.log.count("parent answers again"); n != 1 {
			t.Errorf("it was noticed %d times that the parent answers again, want once", n)
		}
	})
}

func TestFailingParentIsRetriedLikeALinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(time.Minute)
		root.refuse.Store(true)
		time.Sleep(time.Hour)
		root.refuse.Store(false)
		d := root.push("app/a", "1", "v1", large)
		ship.awaitTag("app/a", "v1", d)
	})
}

func TestDeactivatedInstanceWaitsBeforeItActivatesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		first, second := root.child("ship1"), root.child("ship1")
		root.start(first, c)
		first.awaitTag("app/a", "v1", d)
		if _, err := root.fleet.Deactivate(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // the first has found out, and holds back
		root.start(second, c)
		second.awaitTag("app/a", "v1", d)
		time.Sleep(time.Hour)
		e := root.push("app/a", "2", "v1", 10)
		second.awaitTag("app/a", "v1", e)
		if !first.serves("app/a", "v1", d) {
			t.Error("the first instance does not serve what it has")
		}
	})
}

func TestRestartWithoutALinkServesThenSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		stop := root.start(ship, c)
		ship.awaitTag("app/a", "v1", d)
		time.Sleep(time.Minute)
		stop()
		root.link.cut()
		root.start(ship, c)
		time.Sleep(time.Hour)
		if s := ship.agent.Status(); s.ItemsSynced != 1 || s.SyncState != "Succeeded" || s.LastSyncSuccess.IsZero() {
			t.Errorf("status = %+v, want that of the last run", s)
		}
		root.link.restore()
		e := root.push("app/a", "2", "v1", large)
		ship.awaitTag("app/a", "v1", e)
		if n := ship.log.count("connected registry is activated"); n != 1 {
			t.Errorf("it was activated %d times, want once", n)
		}
	})
}
