package connected_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestResumeContinuesAPausedSyncFromTheSameByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", size)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.rate.Store(4_000) // on each connection
		stop := root.start(ship, c)
		time.Sleep(30 * time.Second)
		ship.agent.Pause(t.Context())
		time.Sleep(time.Second)
		s := ship.agent.Status()
		if !s.Paused || s.State != "Online" || s.SyncState != "Pending" || s.BytesDone == 0 || s.BytesTotal < size ||
			s.BytesPerSecond != 0 {
			t.Errorf("while it is paused: %+v", s)
		}
		before := root.sent.Load()
		await(t, "the root hears that syncs are paused", func() bool {
			all, err := root.fleet.Descendants(t.Context())
			return err == nil && len(all) == 1 && all[0].Paused
		})

		// Neither a restart, nor a change, nor a sync now starts one.
		stop()
		root.start(ship, c)
		root.push("app/a", "2", "v2", 10)
		ship.agent.SyncNow(t.Context())
		time.Sleep(time.Hour)
		if n := root.sent.Load() - before; n > 0 {
			t.Errorf("%d bytes of layers came while syncs were paused", n)
		}
		if requests := root.requests.Load(); requests > 300 {
			t.Errorf("%d requests in an hour of pause, want about one a minute", requests)
		}

		root.rate.Store(0)
		ship.agent.Resume(t.Context())
		time.Sleep(2 * time.Second)
		if !ship.serves("app/a", "v1", d) {
			t.Error("the image is not here two seconds after syncs were resumed")
		}
		if sent := root.sent.Load(); sent > size+256<<10 {
			t.Errorf("%d of %d bytes came before the pause, %d in all", before, size, sent)
		}
	})
}

func TestSyncNowOpensAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", first)
		if s := ship.agent.Status(); s.WindowEnd.IsZero() {
			t.Error("the status does not say when the first window closes")
		}
		time.Sleep(10 * time.Hour)
		second := root.push("app/a", "2", "v1", 10)
		if s := ship.agent.Status(); s.NextSync.IsZero() || !s.WindowEnd.IsZero() {
			t.Error("the status does not say when the next window opens, or says that one is open")
		}
		ship.agent.SyncNow(t.Context())
		time.Sleep(time.Second)
		if !ship.serves("app/a", "v1", second) {
			t.Error("the image is not here a second after a sync was asked for")
		}
		if s := ship.agent.Status(); !s.NextSync.IsZero() {
			t.Errorf("the next window is said to open at %v, and one is open", s.NextSync)
		}
		end := time.Now().Add(time.Hour - time.Second)
		if got := ship.agent.Status().WindowEnd; !got.Equal(end) {
			t.Errorf("the window is said to close at %v, not %v", got, end)
		}
	})
}

func TestSyncNowRetriesItemsAndTheLinkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.link.cut()
		root.start(ship, c)
		time.Sleep(time.Hour)
		root.link.restore()
		ship.agent.SyncNow(t.Context())
		time.Sleep(time.Second)
		if !ship.serves("app/a", "v1", d) {
			t.Error("a site that is not activated does not try at once")
		}

		ship.agent.Pause(t.Context()) // until the blob is lost
		lost := root.PushBlob("app/b", []byte("config 2")).Digest
		second := root.push("app/b", "2", "v1", 10)
		if err := root.loseBlob("app/b", lost); err != nil {
			t.Fatal(err)
		}
		ship.agent.Resume(t.Context())
		await(t, "the item fails", func() bool { return ship.agent.Status().ItemsFailed == 1 })
		time.Sleep(2 * time.Hour)
		root.PushBlob("app/b", []byte("config 2"))
		ship.agent.SyncNow(t.Context())
		time.Sleep(time.Second)
		if !ship.serves("app/b", "v1", second) {
			t.Error("what failed is not tried at once")
		}
	})
}
