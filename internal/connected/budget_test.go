package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/control"
)

func TestSyncsWaitForTheNextPeriodOnceTheirBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 5 << 20
		budget := "2MiB/day"
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", control.RegistryPut{Repositories: []string{"app/*"}, Settings: control.Settings{ByteBudget: &budget}})
		ship := root.child("ship1")
		time.Sleep(23 * time.Hour)
		stop := root.start(ship, c)
		const room = 512 << 10 // what is between the two when the budget ends
		for day := range int64(2) {
			time.Sleep(20 * time.Minute)
			stop() // a restart does not make up for it
			stop = root.start(ship, c)
			time.Sleep(20 * time.Minute)
			want := (day + 1) * 2 << 20
			if sent := root.sent.Load(); sent < want-room || sent > want+(day+1)*room {
				t.Errorf("%d bytes by the end of day %d, want %d", sent, day+1, want)
			}
			s := ship.agent.Status()
			next := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
			if s.SyncState != "Pending" || s.State != "Online" || len(s.Details) != 1 || s.Details[0].Code != "BudgetSpent" || !s.NextSync.Equal(next) {
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
		root.update("ship1", control.Settings{ByteBudget: &none})
		ship.awaitTag("app/a", "v1", d)
	})
}
