package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

const large = 300_000 // bytes; too many for a plan

func TestSyncedImageIsServedWithoutTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large, 10)
		root.push("secret/b", "2", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v1", d)
		root.link.cut()
		time.Sleep(time.Hour)
		if !ship.serves("app/a", "v1", d) {
			t.Error("the image is gone with the parent")
		}
		if !ship.serves("secret/b", "v1", "") {
			t.Error("an image came that the sync token may not read")
		}
		if n := ship.log.count("link is down"); n != 1 {
			t.Errorf("the log says %d times that the link is down, want once", n)
		}
	})
}

func TestChangesAreSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, large)

		second := root.push("app/a", "2", "v1", large)
		ship.awaitTag("app/a", "v1", second)
		other := root.push("app/b", "3", "v1", 10)
		ship.awaitTag("app/b", "v1", other)
		if err := root.Storage.DeleteTag(t.Context(), "app/b", "v1"); err != nil {
			t.Fatal(err)
		}
		ship.awaitTag("app/b", "v1", "")
		if err := root.Storage.DeleteManifest(t.Context(), "app/a", second); err != nil {
			t.Fatal(err)
		}
		await(t, "the manifest is gone", func() bool { return ship.serves("app/a", string(second), "") })
	})
}

func TestChangesDuringAnOutageAreSyncedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", large)
		gone := root.push("app/a", "2", "gone", large)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v1", first)
		ship.awaitTag("app/a", "gone", gone)

		root.link.cut()
		time.Sleep(3 * time.Hour)
		second := root.push("app/a", "3", "v1", large)
		if err := root.Storage.DeleteTag(t.Context(), "app/a", "gone"); err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		ship.awaitTag("app/a", "v1", second)
		ship.awaitTag("app/a", "gone", "")
		if strings.Contains(ship.log.String(), "trigger=RecoveryService") {
			t.Error("every repository was listed, though the feed still has the changes")
		}
		if down, up := ship.log.count("link is down"), ship.log.count("parent answers again"); down != 1 || up != 1 {
			t.Errorf("the log says down %d times and up %d times, want once each", down, up)
		}
	})
}

func TestTrimmedFeedStartsAPassOverAllRepositories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", large)
		gone := root.push("app/b", "2", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v1", first)
		ship.awaitTag("app/b", "v1", gone)

		root.link.cut()
		if err := root.Storage.DeleteRepository(t.Context(), "app/b"); err != nil {
			t.Fatal(err)
		}
		second := root.push("app/a", "3", "v1", large)
		time.Sleep(time.Hour)
		if err := root.Storage.TrimFeed(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		ship.awaitTag("app/a", "v1", second)
		ship.awaitTag("app/b", "v1", "")
		if s := ship.agent.Status(); s.SyncTrigger != "RecoveryService" {
			t.Errorf("trigger = %s, want RecoveryService", s.SyncTrigger)
		}
	})
}

func TestChangedPermissionsAddAndRemoveRepositories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		a, b := root.push("app/a", "1", "v1", large), root.push("app/b", "2", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{Repositories: []string{"app/a"}})
		ship.awaitTag("app/a", "v1", a)
		time.Sleep(time.Minute)
		if !ship.serves("app/b", "v1", "") {
			t.Error("app/b came, which is out of scope")
		}
		_, err := root.control.UpdateScopeMap(t.Context(), by, "ship1", api.ScopeMapPatch{
			RemoveActions: []string{"repositories/app/a/content/read", "repositories/app/a/metadata/read"},
			AddActions:    []string{"repositories/app/b/content/read", "repositories/app/b/metadata/read"},
		}, control.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		ship.awaitTag("app/b", "v1", b)
		ship.awaitTag("app/a", "v1", "")
	})
}

func TestReplacedParentListsEveryRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		d := root.push("app/a", "1", "v1", large)
		stop := root.start(ship, c)
		ship.awaitTag("app/a", "v1", d)
		time.Sleep(time.Minute)
		stop()

		// The other's feed is longer already, so a high sequence number does not show that its
		// changes are here.
		other := newRoot(t)
		first := other.push("app/new", "9", "v1", large)
		for i := range 20 {
			other.push("app/a", strings.Repeat("x", i), "v2", 10)
		}
		c.Password = other.connectedRegistry("ship1", api.RegistryPut{}).Password
		if err := other.fleet.Activate(t.Context(), "ship1", ship.control.InstanceID(), "test", ""); err != nil {
			t.Fatal(err)
		}
		other.start(ship, c)
		ship.awaitTag("app/new", "v1", first)
		ship.awaitTag("app/a", "v1", "")
		if s := ship.agent.Status(); s.SyncTrigger != "RecoveryService" {
			t.Errorf("trigger = %s, want RecoveryService", s.SyncTrigger)
		}
		time.Sleep(5 * time.Minute)
		id := other.control.InstanceID()
		if w, _ := ship.agent.Watermarks(); len(w) != 1 || w[id] != other.head() {
			t.Errorf("the watermarks are %v, want only %d in the other's feed", w, other.head())
		}
	})
}

func TestContentSyncsThroughANestedConnectedRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		up := root.connectedRegistry("plant", api.RegistryPut{})
		plant := root.child("plant")
		root.start(plant, up)
		plant.awaitTag("app/a", "v1", d)

		down := root.connectedRegistry("floor", api.RegistryPut{Parent: "plant", Repositories: []string{"app/a"}})
		floor := root.child("floor")
		plant.start(floor, down)
		floor.awaitTag("app/a", "v1", d)
		second := root.push("app/a", "2", "v1", large)
		floor.awaitTag("app/a", "v1", second)
		await(t, "the root has heard of the one at the bottom", func() bool {
			r, err := root.fleet.Get(t.Context(), by, "floor")
			return err == nil && r.ConnectionState == "Online" && r.RegistrySyncResult != nil &&
				r.RegistrySyncResult.SyncState == "Succeeded"
		})
		root.link.cut()
		time.Sleep(time.Hour)
		if !floor.serves("app/a", "v1", second) {
			t.Error("the image is gone with the root")
		}
	})
}

func TestRootSoonHearsOfSyncedGrandchild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, image := newPair(t, 1000)
		cabin := ship.connect("cabin1", api.RegistryPut{})
		cabin.awaitTag("app/a", "v1", image)
		inSync := func() bool {
			r, err := root.fleet.Get(t.Context(), by, "cabin1")
			return err == nil && r.Sync.InSync
		}
		for _, seed := range []string{"2", "3"} {
			await(t, "the root has heard of the grandchild", inSync)
			time.Sleep(5 * time.Minute)
			d := root.push("app/a", seed, "v1", 1000)
			cabin.awaitTag("app/a", "v1", d)
			synced := time.Now()
			await(t, "the root has heard that the image is there", inSync)
			if after := time.Since(synced); after > 15*time.Second {
				t.Errorf("the root heard it %v later", after)
			}
		}
	})
}

func TestIdleChainPollsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, image := newPair(t, 1000)
		cabin := ship.connect("cabin1", api.RegistryPut{})
		cabin.awaitTag("app/a", "v1", image)
		time.Sleep(5 * time.Minute)
		atRoot, atShip := root.requests.Load(), ship.requests.Load()
		time.Sleep(time.Hour)
		atRoot, atShip = root.requests.Load()-atRoot, ship.requests.Load()-atShip
		if atRoot > 60 || atShip > 60 {
			t.Errorf("in an idle hour the root got %d polls, and the child %d", atRoot, atShip)
		}
	})
}

func TestRegistryIsUnheardOnceItsPollBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, _, _ := newPair(t, 1000)
		time.Sleep(5 * time.Minute)
		row := metadb.ControlRow{Table: metadb.ConnectedRegistryRow, Name: "ship1"}
		if u := root.fleet.Unheard(control.Caller{}, root.control.State(), row); u != nil {
			t.Errorf("while a poll is held: %+v", u)
		}
		root.link.cut()
		time.Sleep(time.Second)
		u := root.fleet.Unheard(control.Caller{}, root.control.State(), row)
		if u == nil || u.Registries[0].Name != "ship1" {
			t.Errorf("after the connection is lost: %+v", u)
		}
		root.link.restore()
		time.Sleep(10 * time.Minute)
		if u := root.fleet.Unheard(control.Caller{}, root.control.State(), row); u != nil {
			t.Errorf("once it polls again: %+v", u)
		}
	})
}
