package mirror

import (
	"context"
	"math"
	"sync"
	"time"

	"ferry/internal/replication"
	"ferry/internal/retry"
)

// slots is a semaphore: its capacity is the number of tasks that work at a time.
type slots chan struct{}

// tryAcquire acquires a slot if one is free.
func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// acquire waits for a slot. The error is the cause of ctx.
func (s slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// acquireSlot waits for a slot.
func (t *task) acquireSlot(ctx context.Context) error {
	err := t.slots.acquire(ctx)
	t.inSlot = err == nil
	return err
}

// releaseSlot releases the task's slot, if it has one.
func (t *task) releaseSlot() {
	if t.inSlot {
		t.inSlot = false
		<-t.slots
		t.Wake()
	}
}

// pause waits for d, or until wake sends. In the meantime, others can use the slot. The
// error is the cause of ctx.
func (t *task) pause(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	t.releaseSlot()
	if err := retry.Sleep(ctx, d, wake); err != nil {
		return err
	}
	return t.acquireSlot(ctx)
}

// watchInterval is how often the progress of an engine is checked. During a shorter pause
// that the source asks for, the task keeps its slot.
const watchInterval = 5 * time.Second

// noTimeout is the timeout of an import.
const noTimeout time.Duration = math.MaxInt64

// fetch runs the engine until it is done. It fails if the source sends nothing for the
// timeout, or asks for a pause of at least that length. During a shorter pause, it stops
// the engine and releases the slot.
func (t *task) fetch(ctx context.Context, src *source, timeout time.Duration) (total replication.Result, _ error) {
	for {
		result, err := t.fetchUntilPause(ctx, src, timeout)
		total = addResults(total, result)
		asked, ok := err.(*pauseError)
		if !ok || asked.left >= timeout {
			return total, err
		}
		t.failure.Store(&asked.text)
		err = t.pause(ctx, asked.left, nil)
		t.failure.Store(nil)
		if err != nil {
			return total, err
		}
	}
}

// fetchUntilPause runs the engine until it is done, the source sends nothing for the
// timeout, or the source asks for a pause: then the error is a [pauseError].
func (t *task) fetchUntilPause(
	ctx context.Context, src *source, timeout time.Duration,
) (replication.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		last, since := t.engine.Progress(), time.Now()
		for retry.Sleep(ctx, watchInterval, nil) == nil {
			if now := t.engine.Progress(); now != last {
				last, since = now, time.Now()
			}
			until, why := t.engine.LinkError()
			if left := time.Until(until); left > watchInterval {
				cancel(&pauseError{describe(until, why), left})
			} else if time.Since(since) >= timeout {
				cancel(errNothingComes)
			}
		}
	})
	result, err := t.engine.Sync(ctx, src)
	cancel(nil)
	watcher.Wait()
	return result, err
}

// addResults adds the results of two Syncs in a row. The second one retried the failures
// of the first, so only its own failures count.
func addResults(a, b replication.Result) replication.Result {
	b.Synced, b.Removed, b.Received = a.Synced+b.Synced, a.Removed+b.Removed, a.Received+b.Received
	return b
}

// A pauseError says that a source asks for a pause.
type pauseError struct {
	text string
	left time.Duration
}

// Error implements error.
func (e *pauseError) Error() string { return e.text }

// RetryAfter returns the rest of the pause.
func (e *pauseError) RetryAfter() time.Duration { return e.left }
