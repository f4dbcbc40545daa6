package memlimit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsWaitALimitedTimeForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(10, time.Minute)
		first, err := p.Acquire(t.Context(), 6)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.TryAcquire(5); !errors.Is(err, ErrBusy) {
			t.Errorf("TryAcquire = %v, want %v", err, ErrBusy)
		}
		start := time.Now()
		if _, err := p.Acquire(t.Context(), 5); !errors.Is(err, ErrBusy) || time.Since(start) != time.Minute {
			t.Errorf("Acquire = %v after %v, want %v after a minute", err, time.Since(start), ErrBusy)
		}
		start = time.Now()
		time.AfterFunc(time.Second, first)
		second, err := p.Acquire(t.Context(), 10)
		if err != nil || time.Since(start) != time.Second {
			t.Fatalf("Acquire = %v after %v, want the memory after a second", err, time.Since(start))
		}
		second()
		second() // returns nothing twice
		if _, err := p.TryAcquire(10); err != nil {
			t.Error(err)
		}
		if _, err := p.TryAcquire(1); !errors.Is(err, ErrBusy) {
			t.Errorf("TryAcquire = %v: memory was returned twice", err)
		}
	})
}

func TestWaitForMemoryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := errors.New("stopped")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(stopped) })
		if _, err := New(10, time.Minute).Acquire(ctx, 11); !errors.Is(err, stopped) {
			t.Errorf("Acquire = %v, want %v", err, stopped)
		}
	})
}
