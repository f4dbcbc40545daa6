package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/wire"
)

func TestLargeRequestsWaitForMemoryAndAreThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newRequestMemory()
		var release func()
		for range maxInWork / maxRequest {
			var err error
			if release, err = i.acquire(t.Context(), maxRequest); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if _, err := i.acquire(t.Context(), maxRequest); problemOf(err).Code != codeBusy ||
			time.Since(start) != maxDelay {
			t.Errorf("one too many: %v after %v", err, time.Since(start))
		}
		if _, err := i.keep(smallBody + 1); problemOf(err).Code != codeBusy {
			t.Errorf("more in work: %v", err)
		}
		if _, err := i.acquire(t.Context(), smallBody); err != nil {
			t.Errorf("a small one: %v", err)
		}
		time.AfterFunc(time.Second, release)
		if _, err := i.acquire(t.Context(), maxRequest); err != nil {
			t.Errorf("after another has ended: %v", err)
		}
	})
}

func TestChildThatPollsInALoopIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRateLimits()
		start := time.Now()
		for range 300 {
			if err := p.wait(t.Context(), "ship1", wire.PathPoll); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start).Round(time.Second); took != 200*time.Second {
			t.Errorf("300 polls take %v", took)
		}
		if start = time.Now(); p.wait(t.Context(), "ship2", wire.PathPoll) != nil || time.Since(start) != 0 {
			t.Error("another child waits, too")
		}
		put := make(chan error, 50)
		for range 50 { // at the same time
			go func() { put <- p.wait(t.Context(), "ship1", wire.PathPoll) }()
		}
		refused := 0
		for range 50 {
			if err := <-put; err != nil {
				refused++
			}
		}
		if refused < 30 || refused == 50 || time.Since(start) > maxThrottle {
			t.Errorf("%d of 50 are refused, after %v", refused, time.Since(start))
		}
	})
}

func TestEveryKindOfRequestHasARate(t *testing.T) {
	for _, path := range []string{wire.PathActivate, wire.PathPoll, wire.PathPlan, wire.PathBlobs} {
		if p := requestRates[path]; p.rate <= 0 || p.burst <= 0 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}
