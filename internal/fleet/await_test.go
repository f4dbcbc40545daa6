package fleet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// awaited is an answer of [fleet.Service.AwaitCoverage], and how long it took.
type awaited struct {
	api.Coverage
	took time.Duration
}

// await waits for the coverage of apps/nav:v2.
func (f *largeFleet) await(t *testing.T, percent float64, wait time.Duration) <-chan awaited {
	t.Helper()
	answer := make(chan awaited, 1)
	began := time.Now()
	go func() {
		v, _, err := f.AwaitCoverage(t.Context(), fleet.CoverageQuery{Image: "apps/nav:v2"}, percent, wait)
		if err != nil {
			t.Error(err)
		}
		answer <- awaited{v, time.Since(began)}
	}()
	synctest.Wait()
	return answer
}

// reportAll makes one connected registry report that it has everything.
func (f *largeFleet) reportAll(t *testing.T, i int) {
	t.Helper()
	var head int64
	err := f.Storage.View(t.Context(), func(v *storage.View) (err error) {
		head, _, err = v.FeedHead()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	st := wire.Status{Name: seedName(i), InstanceID: "i" + seedName(i), State: api.Online, At: time.Now(),
		LastSyncSuccess: time.Now(), ItemsSynced: 2, Watermarks: map[string]int64{f.rootID: head}}
	if err := f.Report(t.Context(), st.Name, st.InstanceID, &wire.Report{Self: st}); err != nil {
		t.Fatal(err)
	}
}

func TestAwaitedCoverageIsAnsweredWhenEnoughSitesReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newLargeFleet(t, 3)
		f.Push("apps/nav", storagetest.Index(), "v2")
		half, all, never := f.await(t, 50, time.Minute), f.await(t, 100, time.Minute), f.await(t, 100, 20*time.Second)
		time.Sleep(10 * time.Second)
		f.reportAll(t, 0)
		f.reportAll(t, 1)
		if got := <-half; got.Have != 2 || got.Sites != 3 || got.took > 10*time.Second+time.Second {
			t.Errorf("half of them: %+v after %s", got.Coverage, got.took)
		}
		if got := <-never; got.Have != 2 || got.took > 20*time.Second {
			t.Errorf("at the end of the wait: %+v after %s", got.Coverage, got.took)
		}
		f.reportAll(t, 2)
		if got := <-all; got.Have != 3 || got.Percent != 100 || got.took > 20*time.Second+time.Second {
			t.Errorf("all of them: %+v after %s", got.Coverage, got.took)
		}
	})
}
