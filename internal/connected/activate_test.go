package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/wire"
)

func TestSecondInstanceRetriesUntilTheFirstIsDeactivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		first, second := root.child("ship1"), root.child("ship1")
		stop := root.start(first, c)
		first.awaitTag("app/a", "v1", d)
		stop()

		root.start(second, c)
		time.Sleep(time.Hour)
		if !second.serves("app/a", "v1", "") {
			t.Fatal("the second instance is activated")
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

func TestRefusedInstanceRetriesWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		c.Password = "wrong"
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(24 * time.Hour)
		if n := root.requests.Load(); n < 24*60 || n > 2*24*60 {
			t.Errorf("%d requests in a day, want one or two a minute", n)
		}
		if log := ship.log.String(); strings.Contains(log, "wrong") && strings.Contains(log, c.Password+";") {
			t.Error("the log has the password")
		}
	})
}

func TestAgentSurvivesALinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
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
		root, ship, _ := newPair(t, 10)
		time.Sleep(time.Minute)
		root.link.cut()
		time.Sleep(time.Hour)
		root.link.restore()
		time.Sleep(79 * time.Second) // the longest pause; a held poll would add a minute
		if n := ship.log.count("parent answers again"); n != 1 {
			t.Errorf("it was noticed %d times that the parent answers again, want once", n)
		}
	})
}

func TestFailingParentIsRetriedLikeADownLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		ship := root.connect("ship1", api.RegistryPut{})
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
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		first, second := root.child("ship1"), root.child("ship1")
		root.start(first, c)
		first.awaitTag("app/a", "v1", d)
		if _, err := root.fleet.Deactivate(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // the first one noticed, and waits
		root.start(second, c)
		second.awaitTag("app/a", "v1", d)
		time.Sleep(time.Hour)
		e := root.push("app/a", "2", "v1", 10)
		second.awaitTag("app/a", "v1", e)
		if !first.serves("app/a", "v1", d) {
			t.Error("the first instance does not serve its content")
		}
	})
}

func TestRestartWithoutALinkServesThenSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, large)
		time.Sleep(time.Minute)
		ship.stop()
		root.link.cut()
		ship.restart()
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

func TestChainOfNewRegistriesActivatesInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const levels = 5
		root := newRoot(t)
		names := []string{"", "level1", "level2", "level3", "level4", "level5"}
		sites, connections := []*instance{root}, map[string]wire.ConnectionString{}
		for i := 1; i <= levels; i++ {
			connections[names[i]] = root.connectedRegistry(names[i],
				api.RegistryPut{Parent: names[i-1]})
			sites = append(sites, root.child(names[i]))
		}
		begun := time.Now()
		for i := levels; i > 0; i-- {
			sites[i-1].start(sites[i], connections[names[i]])
			time.Sleep(100 * time.Millisecond) // each asks before its parent has an answer
		}
		await(t, "all are activated",
			func() bool { return sites[levels].log.count("connected registry is activated") == 1 })
		if took := time.Since(begun); took > 4*levels*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, s := range sites[2:] {
			if n := s.log.count("password"); n > 0 {
				t.Errorf("the log of %s mentions a password %d times", s.name, n)
			}
			if n := s.log.count("parent does not know this registry yet"); n != 1 {
				t.Errorf("the log of %s says %d times that its parent does not know it yet", s.name, n)
			}
		}
	})
}
