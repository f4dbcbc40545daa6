package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
)

func TestFailedItemIsRetriedAndStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		broken := root.push("app/a", "1", "v1", large)
		lost := root.PushBlob("app/a", []byte("config 1")).Digest
		if err := root.loseBlob("app/a", lost); err != nil {
			t.Fatal(err)
		}
		d := root.push("app/b", "2", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/b", "v1", d)
		await(t, "the root sees what is wrong", func() bool {
			r, err := root.fleet.Get(t.Context(), by, "ship1")
			return err == nil && r.ConnectionState == "Unhealthy" && len(r.StatusDetails) == 1 &&
				r.StatusDetails[0].Code == "ItemsFailed"
		})
		r, err := root.fleet.Get(t.Context(), by, "ship1")
		if err != nil {
			t.Fatal(err)
		}
		if text := r.StatusDetails[0].Description; !strings.Contains(text, "app/a v1") {
			t.Errorf("detail = %q, want the item's name", text)
		}
		requests := root.requests.Load()
		time.Sleep(4 * time.Hour)
		if n := root.requests.Load() - requests; n > 400 {
			t.Errorf("%d requests in four hours with an item that fails, want about one a minute", n)
		}
		root.PushBlob("app/a", []byte("config 1"))
		time.Sleep(20 * time.Minute)
		if !ship.serves("app/a", "v1", broken) {
			t.Error("the item did not come after its content came back")
		}
		await(t, "all is well",
			func() bool { s := ship.agent.Status(); return s.State == "Online" && s.ItemsFailed == 0 })
	})
}

func TestLongSyncIsReportedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 4<<20)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.rate.Store(300)
		root.start(ship, c)
		time.Sleep(10 * time.Second)
		state := func() string {
			r, err := root.fleet.Get(t.Context(), by, "ship1")
			if err != nil {
				t.Fatal(err)
			}
			return r.ConnectionState
		}
		if s := state(); s != "Syncing" {
			t.Errorf("state = %s, want Syncing", s)
		}
		// Changes of the desired state count at once.
		time.Sleep(7 * time.Second)
		always, window := "0 2 * * *", "PT2H"
		root.update("ship1", api.Settings{Schedule: &always, SyncWindow: &window})
		time.Sleep(3 * time.Second)
		if n := ship.log.count("sync schedule changed"); n != 1 {
			t.Errorf("the log says %d times that the schedule changed, want once", n)
		}
		requests := root.requests.Load()
		time.Sleep(5 * time.Minute)
		if n := root.requests.Load() - requests; n > 40 {
			t.Errorf("%d requests in five minutes of a sync, want about two a minute, and those of the layer", n)
		}
		root.rate.Store(0)
		ship.awaitTag("app/a", "v1", d)
		start := time.Now()
		await(t, "the sync is over", func() bool { return state() == "Online" })
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the parent heard after %v that the sync was over", took)
		}
	})
}

func TestChangeDuringASyncIsSyncedRightAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		z := root.push("app/z", "1", "v1", 1<<20)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.rate.Store(5000)
		root.start(ship, c)
		time.Sleep(time.Second)
		a := root.push("app/a", "2", "v1", 10) // the sync is past it already
		ship.awaitTag("app/z", "v1", z)
		time.Sleep(3 * time.Second)
		if !ship.serves("app/a", "v1", a) {
			t.Error("the change during the sync is not synced right after it")
		}
	})
}

func TestEmptySubscriptionIsInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.connect("ship1", api.RegistryPut{})
		await(t, "the parent hears that the empty sync succeeded", func() bool {
			r, err := root.fleet.Get(t.Context(), control.Caller{}, "ship1")
			if err != nil {
				t.Fatal(err)
			}
			s := r.RegistrySyncResult
			return s != nil && s.SyncState == "Succeeded" && s.SyncTrigger == "InitialSync" &&
				r.Parent.SyncProperties.LastSyncTime != nil
		})
	})
}

func TestLastMatchIsTheLastAnswerOfTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, 10)
		lastMatch := func(state string) time.Time {
			t.Helper()
			items, _, err := root.fleet.DescendantItems(t.Context(), "ship1", fleet.PageStart{}, 10)
			if err != nil || len(items) != 1 || items[0].State != state || items[0].LastMatchTime == nil {
				t.Fatalf("%+v %v, want one that is %s", items, err, state)
			}
			return *items[0].LastMatchTime
		}
		time.Sleep(time.Hour)
		if age := time.Since(lastMatch("InSync")); age > 2*time.Minute {
			t.Errorf("what is in sync last matched %v ago", age)
		}
		ship.agent.Pause(t.Context())
		time.Sleep(time.Minute)
		moved := time.Now()
		root.push("app/a", "2", "v1", 10)
		time.Sleep(time.Hour)
		if before := moved.Sub(lastMatch("Pending")); before < 0 || before > 2*time.Minute {
			t.Errorf("it last matched %v before it moved", before)
		}
		own, err := ship.engine.Items(t.Context(), metadb.OutOfSyncItem, "", "", 10)
		if err != nil || len(own) != 1 || !own[0].SyncedAt.Equal(lastMatch("Pending")) {
			t.Errorf("the site says %+v %v, the root %v", own, err, lastMatch("Pending"))
		}
	})
}
