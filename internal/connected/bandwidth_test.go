package connected_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestBandwidthCapHoldsForBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		for i := range 60 {
			root.push("app/a", fmt.Sprint(i), fmt.Sprint("v", i), 30_000)
		}
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Settings: api.Settings{Bandwidth: []string{"30KiB"}}})
		root.start(root.child("ship1"), c)
		time.Sleep(20 * time.Second) // the first bytes fill the buffers of the link
		before := root.sent.Load()
		time.Sleep(20 * time.Second)
		if got, want := root.sent.Load()-before, int64(20*30<<10); got < want*9/10 || got > want*11/10 {
			t.Errorf("%d bytes in 20 s, want %d", got, want)
		}
	})
}

func TestBandwidthCapHoldsOverAllConnectionsAndChangesLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		for _, seed := range []string{"1", "2", "3", "4"} {
			root.push("app/"+seed, seed, "v1", 8<<20)
		}
		ship := root.connect("ship1", api.RegistryPut{
			Settings: api.Settings{Bandwidth: []string{"00:00-01:00=800kbit", "4Mbit"}}})
		time.Sleep(20 * time.Second) // the first bytes fill the buffers of the link
		check := func(rate int64) {
			t.Helper()
			before := root.sent.Load()
			time.Sleep(10 * time.Second)
			if got, want := root.sent.Load()-before, 10*rate; got < want*97/100 || got > want*103/100 {
				t.Errorf("%d bytes in 10 s, want %d within 3 %%", got, want)
			}
		}
		check(100_000)
		ship.ahead.Store(int64(time.Hour - time.Minute)) // some seconds before the hour
		time.Sleep(35 * time.Second)
		check(500_000)
		settings := api.Settings{Bandwidth: []string{"1600kbit"}}
		root.update("ship1", settings)
		time.Sleep(time.Minute)
		check(200_000)
		settings.Bandwidth = []string{}
		root.update("ship1", settings)
		time.Sleep(time.Minute)
		if s := ship.agent.Status(); s.SyncState != "Succeeded" {
			t.Errorf("a minute after the cap ended: %s, %d of %d bytes", s.SyncState, s.BytesDone, s.BytesTotal)
		}
	})
}
