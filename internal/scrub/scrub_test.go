package scrub_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/scrub"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// corrupt flips a bit of a blob on the disk.
func corrupt(t *testing.T, c storagetest.Content, d digest.Digest) {
	t.Helper()
	file, _, err := c.OpenBlob(t.Context(), "a", d)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	disk, err := os.OpenFile(file.(*os.File).Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	one := make([]byte, 1)
	if _, err = disk.ReadAt(one, 1); err == nil { // in its place: the file is never shorter
		_, err = disk.WriteAt([]byte{one[0] ^ 1}, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a scrubber over c until stop.
func start(t *testing.T, c storagetest.Content, o scrub.Options) (s *scrub.Scrubber, stop func()) {
	t.Helper()
	o.Storage, o.DB = c.Storage, c.DB
	s, err := scrub.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func status(t *testing.T, s *scrub.Scrubber) api.Scrub {
	t.Helper()
	v, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// setting is the state that the scrubber has saved.
func setting(t *testing.T, c storagetest.Content) string {
	t.Helper()
	text, err := metadb.Read(t.Context(), c.DB, func(tx *metadb.Tx) (string, error) { return tx.Setting("scrub") })
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func set(t *testing.T, c storagetest.Content, text string) {
	t.Helper()
	if err := c.DB.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetSetting("scrub", text) }); err != nil {
		t.Fatal(err)
	}
}

// pushLayer stores an image with one layer, and returns the layer's digest.
func pushLayer(c storagetest.Content, layer []byte) digest.Digest {
	c.Push("a", c.Image("a", "config", layer), "v1")
	return digest.FromBytes(layer)
}

func TestAllContentIsReadOnceInAPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		layer := pushLayer(c, []byte("layer"))
		s, stop := start(t, c, scrub.Options{Schedule: scrub.Schedule{Every: 48 * time.Hour}})
		defer stop()
		corrupt(t, c, layer)
		time.Sleep(47 * time.Hour)
		if v := status(t, s); v.DamagedNow != 0 || v.StartTime != nil || v.NextTime == nil {
			t.Errorf("before the period: %+v", v)
		}
		time.Sleep(2 * time.Hour)
		v := status(t, s)
		if v.State != api.ScrubIdle || v.ItemsDone != 3 || v.ItemsDamaged != 1 || v.DamagedNow != 1 || v.Asked {
			t.Errorf("after the period: %+v", v)
		}
		all, err := s.Damaged(t.Context(), "", "", 10)
		if err != nil || len(all) != 1 || all[0].Fetchable {
			t.Fatalf("Damaged = %+v, %v", all, err)
		}
		if diff := cmp.Diff([]string{"a:v1"}, all[0].Images); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNewScheduleIsFollowedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		c.PushBlob("a", make([]byte, 32<<20))
		s, stop := start(t, c, scrub.Options{})
		defer stop()
		time.Sleep(100 * time.Hour)
		if v := status(t, s); v.StartTime != nil {
			t.Errorf("without a period: %+v", v)
		}
		s.Reschedule(scrub.Schedule{Every: time.Hour, Rate: 64 << 10})
		time.Sleep(2 * time.Minute)
		if v := status(t, s); v.State != api.ScrubRunning {
			t.Errorf("with a period: %+v", v)
		}
		s.Reschedule(scrub.Schedule{Every: 1000 * time.Hour, Rate: 64 << 20})
		time.Sleep(2 * time.Minute)
		if v := status(t, s); v.State != api.ScrubIdle || v.BytesDone < 32<<20 {
			t.Errorf("with a higher rate: %+v", v)
		}
	})
}

func TestScrubKeepsItsRateAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		for i := range 4 {
			c.PushBlob("a", append(make([]byte, 8<<20), byte(i)))
		}
		began := time.Now()
		// 256 KiB a second, which is 32 s a blob, and 90 s in each hour: three blobs are begun in
		// such a window at most.
		open := func(at time.Time) bool { return at.Sub(began)%time.Hour < 90*time.Second }
		schedule := scrub.Schedule{Every: 24 * time.Hour, Rate: 256 << 10, Open: open}
		s, stop := start(t, c, scrub.Options{Schedule: schedule})
		defer stop()
		time.Sleep(24*time.Hour + 30*time.Minute)
		v := status(t, s)
		if v.State != api.ScrubWaiting || v.ItemsDone < 1 || v.ItemsDone > 3 {
			t.Errorf("after one window: %+v", v)
		}
		first := v.ItemsDone
		time.Sleep(time.Hour)
		if v := status(t, s); v.ItemsDone <= first {
			t.Errorf("after two windows: %+v", v)
		}
	})
}

func TestPassContinuesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		for i := range 4 {
			c.PushBlob("a", append(make([]byte, 1<<20), byte(i)))
		}
		o := scrub.Options{Schedule: scrub.Schedule{Every: time.Hour, Rate: 64 << 10}}
		s, stop := start(t, c, o)
		time.Sleep(time.Hour + 40*time.Second)
		before := status(t, s)
		stop()
		if before.State != api.ScrubRunning || before.ItemsDone == 0 || before.ItemsDone == 4 {
			t.Fatalf("before the restart: %+v", before)
		}
		s, stop = start(t, c, o)
		defer stop()
		if v := status(t, s); v.ItemsDone != before.ItemsDone || !v.StartTime.Equal(*before.StartTime) {
			t.Errorf("after the restart: %+v, want %+v", v, before)
		}
		time.Sleep(10 * time.Minute)
		if v := status(t, s); v.State != api.ScrubIdle || v.ItemsDone != 4 || v.BytesDone != v.BytesTotal {
			t.Errorf("at the end: %+v", v)
		}
	})
}

// A machine that is switched off every evening never stops its process cleanly.
func TestPeriodContinuesAfterAKilledProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		c.PushBlob("a", []byte("content"))
		for range 5 {
			// Undo what stop saved: a killed process would not have saved it.
			_, stop := start(t, c, scrub.Options{Schedule: scrub.Schedule{Every: 48 * time.Hour}})
			time.Sleep(8 * time.Hour)
			before := setting(t, c)
			stop()
			set(t, c, before)
			time.Sleep(4 * time.Hour)
		}
		s, stop := start(t, c, scrub.Options{Schedule: scrub.Schedule{Every: 48 * time.Hour}})
		defer stop()
		if v := status(t, s); v.ItemsDone != 1 {
			t.Errorf("after two days and a half: %+v", v)
		}
	})
}

func TestLostFilesAreFoundSoonAfterTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		file, _, err := c.OpenBlob(t.Context(), "a", pushLayer(c, []byte("content")))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := os.Remove(file.(*os.File).Name()); err != nil {
			t.Fatal(err)
		}
		s, stop := start(t, c, scrub.Options{})
		defer stop()
		time.Sleep(5 * time.Minute)
		if v := status(t, s); v.DamagedNow != 1 {
			t.Errorf("five minutes after the start: %+v", v)
		}
	})
}

func TestRequestedPassReadsAtOnceAtFullSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		d := pushLayer(c, make([]byte, 32<<20))
		never := func(time.Time) bool { return false }
		s, stop := start(t, c, scrub.Options{Schedule: scrub.Schedule{Rate: 64 << 10, Open: never}})
		defer stop()
		corrupt(t, c, d)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if v := status(t, s); v.State != api.ScrubIdle || !v.Asked || v.DamagedNow != 1 {
			t.Errorf("after the requested scrub: %+v", v)
		}
		again := c.PushBlob("a", make([]byte, 32<<20)) // the same content again
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if v := status(t, s); v.DamagedNow != 0 || v.ItemsDamaged != 0 || v.ItemsDone != 3 {
			t.Errorf("after %s was pushed again: %+v", again.Digest, v)
		}
	})
}

func TestEndedScrubCountsAllThatItFound(t *testing.T) {
	c := storagetest.New(t, storage.Options{})
	s, stop := start(t, c, scrub.Options{})
	defer stop()
	for round := range int64(20) {
		corrupt(t, c, pushLayer(c, fmt.Append(nil, "layer", round)))
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		v := status(t, s)
		for v.State != api.ScrubIdle {
			v = status(t, s)
		}
		if v.DamagedNow != round+1 {
			t.Fatalf("round %d: %+v", round, v)
		}
	}
}

func TestSuspectIsReadOnceInAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storagetest.New(t, storage.Options{})
		d := pushLayer(c, []byte("content"))
		s, stop := start(t, c, scrub.Options{})
		defer stop()
		s.Suspect(d)
		time.Sleep(time.Minute)
		corrupt(t, c, d)
		s.Suspect(d)
		time.Sleep(time.Minute)
		if v := status(t, s); v.DamagedNow != 0 {
			t.Errorf("a suspect was read twice in an hour: %+v", v)
		}
		time.Sleep(time.Hour)
		s.Suspect(d)
		time.Sleep(time.Minute)
		if v := status(t, s); v.DamagedNow != 1 {
			t.Errorf("a suspect was not read after an hour: %+v", v)
		}
	})
}
