package mirror

import (
	"context"
	"math"
	"sync"
	"time"

	"ferry/internal/replication"
	"ferry/internal/retry"
)

// slots bounds how many tasks work at a time: its capacity.
type slots chan struct{}

// tryTake takes a slot if one is free.
func (s slots) tryTake() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// take waits for a slot. The error is ctx's cause.
func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter waits for the task's slot.
func (t *task) enter(ctx context.Context) error {
	err := t.slots.take(ctx)
	t.inSlot = err == nil
	return err
}

// leave gives the task's slot to others, if it has one.
func (t *task) leave() {
	if t.inSlot {
		t.inSlot = false
		<-t.slots
		t.Wake()
	}
}

// pause waits for d, or until wake sends, and lets others have the slot
// meanwhile. The error is ctx's cause.
func (t *task) pause(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	t.leave()
	if err := retry.Sleep(ctx, d, wake); err != nil {
		return err
	}
	return t.enter(ctx)
}

// sourceLook is how often it is looked at how a source answers. A pause that is
// shorter keeps its slot.
const sourceLook = 5 * time.Second

// forever is the patience of an import.
const forever time.Duration = math.MaxInt64

// fetch runs the engine until it is done. It ends if nothing comes for as long as
// patience, or if the source asks for a pause that long. During a shorter one the
// slot is free, and the engine runs again after it.
func (t *task) fetch(ctx context.Context, src *source, patience time.Duration) (total replication.Result, _ error) {
	for {
		result, err := t.fetchUntilPause(ctx, src, patience)
		total = added(total, result)
		held, ok := err.(*heldOffError)
		if !ok || held.left >= patience {
			return total, err
		}
		t.failure.Store(&held.text)
		err = t.pause(ctx, held.left, nil)
		t.failure.Store(nil)
		if err != nil {
			return total, err
		}
	}
}

// fetchUntilPause runs the engine until it is done, nothing comes for as long as
// patience, or the source asks for a pause, which is a [heldOffError] then.
func (t *task) fetchUntilPause(
	ctx context.Context, src *source, patience time.Duration,
) (replication.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		last, since := t.engine.Progress(), time.Now()
		for retry.Sleep(ctx, sourceLook, nil) == nil {
			if now := t.engine.Progress(); now != last {
				last, since = now, time.Now()
			}
			until, why := t.engine.LinkError()
			if left := time.Until(until); left > sourceLook {
				cancel(&heldOffError{describe(until, why), left})
			} else if time.Since(since) >= patience {
				cancel(errNothingComes)
			}
		}
	})
	result, err := t.engine.Sync(ctx, src)
	cancel(nil)
	watcher.Wait()
	return result, err
}

// added is the sum of two Syncs in a row. The last one tries again what failed
// in the first.
func added(a, b replication.Result) replication.Result {
	b.Synced, b.Removed, b.Received = a.Synced+b.Synced, a.Removed+b.Removed, a.Received+b.Received
	return b
}

// A heldOffError says that a source asked for a pause.
type heldOffError struct {
	text string
	left time.Duration
}

// Error implements error.
func (e *heldOffError) Error() string { return e.text }

// RetryAfter returns for how long the source must be left alone.
func (e *heldOffError) RetryAfter() time.Duration { return e.left }
