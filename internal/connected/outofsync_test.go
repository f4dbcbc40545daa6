package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/storage"
)

func TestResyncListsEveryRepositoryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, 10)
		if _, err := root.fleet.Resync(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "every repository is listed", func() bool { return ship.log.count("trigger=ManualResync") == 1 })
		ship.stop()
		ship.restart()
		time.Sleep(10 * time.Minute)
		if n := ship.log.count("trigger=ManualResync"); n != 1 {
			t.Errorf("every repository is listed %d times for one resync", n)
		}
		if s := ship.agent.Status(); s.SyncTrigger != "ManualResync" || s.SyncState != "Succeeded" {
			t.Errorf("%+v", s)
		}
	})
}

func TestReportListsItemsOutOfSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.push("app/a", "1", "v1", large)
		lost := root.PushBlob("app/a", []byte("config 1")).Digest
		if err := root.loseBlob("app/a", lost); err != nil {
			t.Fatal(err)
		}
		root.push("app/b", "2", "v1", large)
		root.connect("ship1", api.RegistryPut{})
		await(t, "the root hears of the item that failed", func() bool {
			all, err := root.fleet.Descendants(t.Context())
			if err != nil || len(all) != 1 || len(all[0].OutOfSync) != 1 || all[0].ItemsSynced != 1 {
				return false
			}
			o := all[0].OutOfSync[0]
			return o.Repository == "app/a" && o.Tag == "v1" && o.Error != "" && o.Digest != "" && o.Here == ""
		})
	})
}

// TestLockedListingRemovesNothingAtAChild locks the listing of a tag and of a repository. Clients
// that know the names pull them at the root, and at the site.
func TestLockedListingRemovesNothingAtAChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		digests := map[string]digest.Digest{"app/a": root.push("app/a", "1", "v1", 10),
			"app/b": root.push("app/b", "2", "v1", 10)}
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v1", digests["app/a"])
		ship.awaitTag("app/b", "v1", digests["app/b"])
		for _, lock := range [][2]string{{"app/a", "v1"}, {"app/b", ""}} {
			if err := root.ChangeLocks(t.Context(), lock[0], lock[1],
				storage.LockChange{Set: storage.NoList}); err != nil {
				t.Fatal(err)
			}
		}
		digests["app/c"] = root.push("app/c", "3", "v1", 10)
		ship.awaitTag("app/c", "v1", digests["app/c"])
		if _, err := root.fleet.Resync(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "every repository is listed", func() bool { return ship.log.count("trigger=ManualResync") == 1 })
		time.Sleep(10 * time.Minute)
		for repository, d := range digests {
			if !ship.serves(repository, "v1", d) {
				t.Errorf("the site does not serve %s", repository)
			}
			if state := root.stateOf("ship1", repository, "v1"); state != api.InSync {
				t.Errorf("at the root %s is %q", repository, state)
			}
		}
	})
}
