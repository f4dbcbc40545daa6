package replication

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/retry"
)

// A modelLink is a link as a crew sees it: a rate for all hands together, and
// one that a single connection does not get past.
type modelLink struct {
	mu       sync.Mutex
	total    float64 // bytes a second
	each     float64
	hands    int
	received float64
	starved  bool
	upsets   int64
}

// flow lets bytes come, every tenth of a second, until ctx ends.
func (l *modelLink) flow(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.mu.Lock()
			l.received += min(l.total, float64(l.hands)*l.each) / 10
			l.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// settle runs a crew on a link for some time and returns how many hands it has then.
func settle(t *testing.T, limit int, l *modelLink, d time.Duration, meanwhile func()) (hands int) {
	ctx, cancel := context.WithCancel(t.Context())
	c := newCrew(limit, slog.New(slog.DiscardHandler))
	locked := func(f func()) { l.mu.Lock(); defer l.mu.Unlock(); f() }
	c.received = func() (n int64) { locked(func() { n = int64(l.received) }); return n }
	c.unrest = func() (n int64) { locked(func() { n = l.upsets }); return n }
	c.starved = func() (b bool) { locked(func() { b = l.starved }); return b }
	var all sync.WaitGroup
	all.Go(func() { l.flow(ctx) })
	all.Go(func() { c.adapt(ctx) })
	all.Go(func() {
		c.hire(ctx, func() {
			all.Go(func() {
				locked(func() { l.hands++ })
				for ctx.Err() == nil && !c.leave() {
					retry.Sleep(ctx, 500*time.Millisecond, nil)
				}
				locked(func() { l.hands-- })
			})
		})
	})
	if meanwhile != nil {
		time.Sleep(d / 2)
		locked(meanwhile)
		d /= 2
	}
	time.Sleep(d)
	hands = c.size()
	c.finish()
	cancel()
	all.Wait()
	return hands
}

func TestACrewIsAsLargeAsTheLinkWantsIt(t *testing.T) {
	for _, test := range []struct {
		name      string
		limit     int
		link      *modelLink
		meanwhile func(*modelLink)
		least     int
		most      int
	}{
		{"a satellite, where one connection gets little", 16, &modelLink{total: 500e3, each: 27e3}, nil, 16, 16},
		{"a link that one connection fills", 16, &modelLink{total: 1e6, each: 1e7}, nil, 2, 2},
		{"one that four fill", 16, &modelLink{total: 1e6, each: 250e3}, nil, 4, 4},
		{"a limit of one", 1, &modelLink{total: 1e6, each: 1e3}, nil, 1, 1},
		{"one that becomes lossy", 16, &modelLink{total: 1e6, each: 1e7}, func(l *modelLink) { l.each = 20e3 }, 16, 16},
		{"one with little to fetch", 16, &modelLink{total: 1e6, each: 1e7, starved: true}, nil, 16, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var change func()
				if test.meanwhile != nil {
					change = func() { test.meanwhile(test.link) }
				}
				if n := settle(t, test.limit, test.link, time.Hour, change); n < test.least || n > test.most {
					t.Errorf("%d hands, want %d to %d", n, test.least, test.most)
				}
			})
		})
	}
}

// What is measured while the link goes down or comes back, or while there is
// not enough to fetch, is no reason to change anything.
func TestACrewIsNotMisledByALinkThatIsCut(t *testing.T) {
	for _, test := range []struct {
		name    string
		happens func(l *modelLink)
		ok      bool
	}{
		{"nothing", func(*modelLink) {}, true},
		{"the link goes down, or comes back", func(l *modelLink) { l.upsets++ }, false},
		{"somebody has nothing to fetch", func(l *modelLink) { l.starved = true }, false},
		{"nothing comes any more", func(l *modelLink) { l.received = 0 }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &modelLink{}
				c := newCrew(16, slog.New(slog.DiscardHandler))
				c.received = func() int64 { l.mu.Lock(); defer l.mu.Unlock(); return int64(l.received) }
				c.unrest = func() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.upsets }
				c.starved = func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.starved }
				var meanwhile sync.WaitGroup
				meanwhile.Go(func() {
					time.Sleep(settling + watching/2)
					l.mu.Lock()
					defer l.mu.Unlock()
					l.received = 1e6
					test.happens(l)
				})
				rate, ok := c.measure(t.Context())
				if meanwhile.Wait(); ok != test.ok {
					t.Errorf("measured %v, %v; want %v", rate, ok, test.ok)
				}
			})
		})
	}
}
