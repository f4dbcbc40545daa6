package connected_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/storage"
)

func TestParentsOfEarlierBuildsAreFollowed(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a registry 18 times, and finds no races that others do not find")
	}
	rotation := []string{"ownToken", "rotated", "passwordChanges", "rotatePasswordEvery"}
	locks := []string{"locks", "lockSum"}
	others := []string{"join", "parentEndpoint", "stored", "events", "audit", "auditLogs", "notifications", "labels",
		"gaps", "actionsWithExclusions", "anonymousNetworks", "receivesChanges", "itemsToSend", "bytesToSend", "unsent"}
	for name, unknown := range map[string][]string{
		"rotation by hash": rotation, "locks": locks, "join tokens": {"join"},
		"an announced address": {"parentEndpoint"},
		"events and audit":     {"stored", "events", "audit", "auditLogs", "notifications"}, "labels": {"labels"},
		"exclusions":         {"gaps", "actionsWithExclusions"},
		"changes of clients": {"receivesChanges", "itemsToSend", "unsent"},
		"anything new":       slices.Concat(rotation, locks, others),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root := newRoot(t)
				other := "other:443"
				root.announced.Store(&other)
				locked := root.push("app/b", "9", "v1", 10)
				root.lock("app/b", "", storage.LockChange{Set: storage.NoRead})
				first := root.push("app/a", "1", "v1", 10)
				ship := root.child("ship1")
				ship.polls.setEarlier(unknown...)
				settings := api.Settings{RotatePasswordEvery: new("P1D"), Labels: map[string]string{"group": "baltic"}}
				knows := func(fields []string) bool { return !slices.Contains(unknown, fields[0]) }
				if !knows(rotation) { // this child runs for days: it need not poll every minute
					settings.Schedule, settings.SyncWindow = new("0 */6 * * *"), new("PT1H")
				}
				ship.parent = root
				ship.connection = root.connectedRegistry("ship1", api.RegistryPut{Settings: settings})
				ship.restart()
				ship.awaitTag("app/a", "v1", first)
				if !knows(rotation) {
					time.Sleep(30 * time.Hour)
				}
				second := root.push("app/a", "2", "v1", 10)
				ship.awaitTag("app/a", "v1", second)
				if n := root.rotations("ship1"); n > 0 {
					t.Errorf("%d rotations before the update", n)
				}
				for _, p := range ship.polls.all() {
					if len(p.question.PasswordChanges) > 0 && !knows(rotation) || len(p.question.Events) > 0 {
						t.Fatalf("the child sends what the parent does not know: %+v", p.question)
					}
				}
				if details := ship.agent.Status().Details; len(details) > 0 {
					t.Errorf("details before the update: %+v", details)
				}
				r, err := root.fleet.Get(t.Context(), by, "ship1")
				if err != nil || r.Sync.Status != api.InSync || r.Summary.State != api.InSync {
					t.Errorf("the root says %+v, %+v, %v", r.Sync, r.Summary, err)
				}

				ship.polls.setEarlier()
				third := root.push("app/a", "3", "v1", 10)
				ship.awaitTag("app/a", "v1", third)
				await(t, "the child knows of the lock", func() bool { return ship.isDenied("app/b", string(locked)) })
				if !knows(rotation) {
					time.Sleep(30 * time.Hour)
					if root.rotations("ship1") == 0 {
						t.Error("no rotation after the update")
					}
				}
				if n := ship.polls.restarts(); n > 2 {
					t.Errorf("every repository was listed %d times", n)
				}
			})
		})
	}
}
