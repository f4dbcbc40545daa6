package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// fakeWork counts the calls of an upkeep.
type fakeWork struct {
	db       *metadb.DB
	own      *wire.ConnectedRegistry
	ttl      time.Duration
	failure  error
	full     error // returned by trimming the feed
	collects []time.Time
	trims    []time.Duration // how long the feed was kept
	saved    int             // how often the times of the last activity were saved
	counted  int             // how often the uptime was saved
}

func (c *fakeWork) Collect(context.Context) (storage.Collected, error) {
	c.collects = append(c.collects, time.Now())
	return storage.Collected{Blobs: 1}, c.failure
}

func (c *fakeWork) TrimFeed(_ context.Context, age time.Duration) error {
	c.trims = append(c.trims, age)
	return c.full
}

func (c *fakeWork) SaveUptime(context.Context) error {
	c.counted++
	return nil
}

func (c *fakeWork) Own(context.Context) (*wire.ConnectedRegistry, error) { return c.own, nil }

func (c *fakeWork) LongestMessageTTL() time.Duration { return c.ttl }

func (c *fakeWork) SaveSeen(context.Context) error {
	c.saved++
	return nil
}

func (c *fakeWork) SaveKeyUse(context.Context) error { return nil }

// after runs an upkeep over c for d. The clock starts at midnight, UTC.
func after(t *testing.T, d time.Duration, c *fakeWork, level *slog.LevelVar) {
	t.Helper()
	if c.db == nil {
		c.db = dbtest.SQLite(t)
	}
	u := &upkeep{
		storage: c, fleet: c, keys: c, db: c.db, log: slog.New(slog.DiscardHandler), now: time.Now, started: time.Now(),
	}
	u.level.Store(level)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var leads sync.WaitGroup
	defer leads.Wait()
	leads.Go(func() {
		if err := u.lead(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := u.run(ctx); err != nil {
		t.Error(err)
	}
}

func TestRootCollectsGarbageEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{failure: errors.New("for once")}
		after(t, 5*time.Hour+time.Minute, c, nil)
		if len(c.collects) != 5 {
			t.Errorf("collected at %v", c.collects)
		}
	})
}

func TestLastSeenTimesAreSavedRegularlyAndAtExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{full: errors.New("the disk is full")}
		if after(t, 90*time.Second, c, nil); c.saved != 3 {
			t.Errorf("written %d times in 90 seconds, want 3", c.saved)
		}
	})
}

func TestUptimeIsSavedRegularlyAndAtExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{}
		if after(t, 25*time.Minute, c, nil); c.counted != 3 {
			t.Errorf("written %d times in 25 minutes, want 3", c.counted)
		}
	})
}

func TestMissedCollectionRunsAfterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{own: &wire.ConnectedRegistry{Spec: wire.Spec{GCEnabled: true, GCSchedule: "0 0 * * *"}}}
		time.Sleep(8 * time.Hour)
		after(t, 10*time.Hour, c, nil) // a new instance has nothing overdue
		if len(c.collects) != 0 {
			t.Fatalf("collected at %v", c.collects)
		}
		time.Sleep(14 * time.Hour)
		started := time.Now()
		after(t, 10*time.Hour, c, nil)
		after(t, time.Hour, c, nil)
		if len(c.collects) != 1 || c.collects[0].Sub(started) != upkeepInterval {
			t.Errorf("started at %v, collected at %v", started, c.collects)
		}
	})
}

func TestClockSetBackDoesNotStopCollections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{db: dbtest.SQLite(t)}
		later := &upkeep{db: c.db, collected: time.Now().Add(1000 * time.Hour)}
		if err := later.saveCollected(t.Context()); err != nil {
			t.Fatal(err)
		}
		after(t, 2*time.Hour+time.Minute, c, nil)
		if len(c.collects) != 2 {
			t.Errorf("collected at %v", c.collects)
		}
	})
}

func TestLastCollectionTimeIsSavedOnBothDatabases(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		start := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
		load := func(now, want time.Time) {
			t.Helper()
			u := &upkeep{db: db}
			if err := u.loadCollected(t.Context(), now); err != nil || !u.collected.Equal(want) {
				t.Errorf("at %v: %v, %v, want %v", now, u.collected, err, want)
			}
		}
		load(start, start) // without a saved time, the interval starts now
		load(start.Add(time.Hour), start)
		u := &upkeep{db: db, collected: start.Add(2 * time.Hour)}
		if err := u.saveCollected(t.Context()); err != nil {
			t.Fatal(err)
		}
		load(start.Add(3*time.Hour), u.collected)
		load(start.Add(time.Hour), start.Add(time.Hour)) // the clock was set back
	})
}

func TestGarbageIsCollectedIfTrimmingTheFeedFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{full: errors.New("the disk is full")}
		after(t, time.Hour+time.Minute, c, nil)
		if len(c.collects) != 1 {
			t.Errorf("collected at %v", c.collects)
		}
	})
}

func TestConnectedRegistryCollectsGarbageOnItsDesiredSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{own: &wire.ConnectedRegistry{Spec: wire.Spec{GCEnabled: true, GCSchedule: "30 5 * * *"}}}
		after(t, 36*time.Hour, c, nil)
		if len(c.collects) != 2 || c.collects[0].UTC().Format("15:04") != "05:30" {
			t.Errorf("collected at %v", c.collects)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{own: &wire.ConnectedRegistry{Spec: wire.Spec{GCSchedule: "* * * * *"}}}
		after(t, time.Hour, c, nil)
		if len(c.collects) != 0 {
			t.Errorf("collected at %v, though it is not enabled", c.collects)
		}
	})
}

func TestFeedIsKeptForTheLongestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeWork{ttl: 20 * 24 * time.Hour}
		after(t, 150*time.Minute, c, nil)
		if len(c.trims) != 3 || c.trims[0] != c.ttl || c.trims[2] != c.ttl {
			t.Errorf("kept for %v", c.trims)
		}
	})
}

func TestConnectedRegistryLogsAtItsDesiredLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{
		"Debug": slog.LevelDebug, "Information": slog.LevelInfo, "Warning": slog.LevelWarn, "Error": slog.LevelError,
		"None": levelNone, "Future": slog.LevelInfo,
	} {
		synctest.Test(t, func(t *testing.T) {
			level := new(slog.LevelVar)
			after(t, time.Second, &fakeWork{own: &wire.ConnectedRegistry{Spec: wire.Spec{LogLevel: text}}}, level)
			if level.Level() != want {
				t.Errorf("%s: %v", text, level.Level())
			}
		})
	}
}
