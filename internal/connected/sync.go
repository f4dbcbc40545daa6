package connected

import (
	"context"
	"maps"
	"time"

	"ferry/internal/replication"
)

// How often the parent hears of a running sync: soon after its start, then
// now and then.
const (
	firstReport = 2 * time.Second
	reportEvery = 30 * time.Second
)

// How long items that failed wait for another try, unless something changes.
const (
	itemPause    = time.Minute
	itemMaxPause = 15 * time.Minute
)

// An outcome is how a sync ended.
type outcome struct {
	replication.Result
	err error
}

// begin starts a sync where there is something to do. It returns how long
// the parent need not be asked.
func (v *visit) begin(ctx context.Context) time.Duration {
	if v.sync != nil {
		v.progress(ctx)
		return leastPause
	}
	_, pending, failed, err := v.engine.Counts(ctx)
	if err != nil {
		return v.bad(local(err))
	}
	if pending+failed == 0 {
		if err := v.advance(ctx); err != nil {
			return v.bad(local(err))
		}
	}
	switch {
	case pending+failed == 0 && v.news:
		v.news = false
		v.inStep(ctx)
		return 0 // the parent is waiting to hear it
	case pending+failed == 0, !v.news && v.now().Before(v.retryAt), v.now().Before(v.notBefore):
		return leastPause
	}
	if !v.start(ctx, pending+failed) {
		return leastPause
	}
	v.news = false
	return firstReport
}

// advance notes up to where everything is here, with nothing to sync.
func (v *visit) advance(ctx context.Context) error {
	place, err := v.engine.Place(ctx)
	if err != nil {
		return err
	}
	if known := place.Known(); known != nil && !maps.Equal(known, v.recalled().Whole) {
		v.remember(ctx, func(m *memory) { m.Whole = known })
	}
	return nil
}

// inStep notes that there was news, and nothing to do about it: a parent that
// has nothing for this registry, or only what is here.
func (v *visit) inStep(ctx context.Context) {
	now := v.now()
	v.remember(ctx, func(m *memory) { m.SyncStart, m.SyncEnd, m.SyncSuccess, m.SyncState = now, now, now, stateSucceeded })
	v.blame(ctx, outcome{}) // what an earlier sync left open is gone from the parent
	v.log.Info("in step; there is nothing to sync")
}

// start lets a sync run until ctx ends or somebody pauses it. It reports
// false where syncs are paused, or nothing that waits may be fetched.
func (v *visit) start(ctx context.Context, items int) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	frugal, ok := v.begun(cancel)
	if !ok {
		cancel(errPaused)
		return false
	}
	if frugal {
		var err error
		if items, err = v.engine.Wanted(ctx); err != nil || items == 0 {
			v.ended()
			return false
		}
		v.log.Info("the byte budget is spent; only what is urgent is synced")
	}
	v.log.Info("sync started", "items", items)
	v.remember(ctx, func(m *memory) { m.SyncStart, m.SyncState = v.now(), stateSyncing })
	done := make(chan outcome, 1)
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	v.sync, v.syncing, v.over, v.told = done, ctx, over, v.now()
	go func() {
		defer end()
		result, err := v.engine.Sync(ctx, cappedSource{v.parent, v.Agent})
		done <- outcome{result, err}
	}()
	return true
}

// progress lets people see that a long sync moves, once in a while, also after
// a loss of power.
func (v *visit) progress(ctx context.Context) {
	now := v.now()
	if now.Sub(v.told) < reportEvery {
		return
	}
	v.told = now
	v.remember(ctx, func(m *memory) { m.Left = v.left() })
	p := v.engine.Progress()
	v.log.Info("sync goes on", "items", p.ItemsDone, "of", p.ItemsTotal, "bytes", p.BytesDone, "ofBytes", p.BytesTotal)
}

// left is what the sync has begun, as far as a report can have it.
func (v *visit) left() []replication.InFlight {
	all := v.engine.InFlight()
	return all[:min(len(all), maxOpen)]
}

// complete reports whether nothing is left to sync.
func (v *visit) complete(ctx context.Context) bool {
	_, pending, failed, err := v.engine.Counts(ctx)
	return err == nil && pending+failed == 0
}

// finish notes how the sync ended.
func (v *visit) finish(o outcome) {
	stopped, cause := v.syncing.Err() != nil, context.Cause(v.syncing)
	ctx := context.WithoutCancel(v.syncing)
	v.sync, v.syncing, v.over = nil, nil, nil
	state := stateSucceeded
	switch {
	case stopped && o.err != nil:
		state = statePending
		v.retry.Reset() // nothing failed
	case o.err != nil || o.Failed > 0:
		state = stateFailed
	default:
		v.retry.Reset()
	}
	if v.ended() && state == stateSucceeded && !v.complete(ctx) {
		state, cause = statePending, errBudgetSpent
	}
	now := v.now()
	v.retryAt = now.Add(v.retry.NextBackOff())
	v.remember(ctx, func(m *memory) {
		m.SyncEnd, m.SyncState, m.Left = now, state, v.left()
		if state == stateSucceeded {
			m.SyncSuccess = now
		}
	})
	if state != statePending {
		v.blame(ctx, o)
	}
	attrs := []any{"items", o.Synced, "removed", o.Removed, "failed", o.Failed, "bytes", o.Received,
		"took", now.Sub(v.recalled().SyncStart).Round(time.Millisecond)}
	switch state {
	case stateSucceeded:
		v.log.Info("sync finished", attrs...)
	case statePending:
		v.log.Info("sync stopped, and goes on from the same byte", append(attrs, "err", cause)...)
	default:
		if o.err != nil {
			attrs = append(attrs, "err", o.err)
		}
		v.log.Warn("sync finished with failures", append(attrs, "retry", v.retryAt)...)
	}
}
