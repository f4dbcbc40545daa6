package connected

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"ferry/internal/gateway"
	"ferry/internal/replication"
)

// How often the parent hears of a running sync: soon after its start, then
// now and then.
const (
	firstReport = 2 * time.Second
	reportEvery = 30 * time.Second
)

// holdFor is how long the parent is asked to hold a poll until something
// changes.
const holdFor = time.Minute

// leastPause is between two polls that bring nothing, whatever the parent
// thinks of holding them.
const leastPause = time.Second

// How long items that failed wait for another try, unless something changes.
const (
	itemPause    = time.Minute
	itemMaxPause = 15 * time.Minute
)

// A visit is one open window. One goroutine asks the parent what there is to
// do and tells it how things are, one request at a time; beside it runs at
// most one sync.
type visit struct {
	*Agent
	sync     chan outcome // of the running sync; nil while none runs
	reported *gateway.Report
	news     bool      // something was noted that no sync has looked at
	retryAt  time.Time // when what the last sync left open is due again
	retry    *backoff.ExponentialBackOff
}

// An outcome is how a sync ended.
type outcome struct {
	replication.Result
	err error
}

// follow keeps in step with the parent until the window closes, the parent
// takes the activation away, or ctx ends.
func (a *Agent) follow(ctx context.Context) {
	window, cancel := context.WithCancelCause(ctx)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		a.closeWindow(window, cancel)
	}()
	v := &visit{Agent: a, retry: pauses(itemPause, itemMaxPause)}
	err := v.run(window)
	cancel(err)
	<-closed
	if v.sync != nil {
		v.finish(window, <-v.sync)
	}
	if errors.Is(err, gateway.ErrNotActivated) && ctx.Err() == nil {
		a.deactivated(ctx)
	}
}

// run returns [gateway.ErrNotActivated], or nil when ctx ends.
func (v *visit) run(ctx context.Context) error {
	for ctx.Err() == nil {
		var pause time.Duration
		switch busy, err := v.poll(ctx); {
		case err == nil:
			// What failed for want of a link has one now.
			v.news = v.link.good() || v.news
			if pause = v.begin(ctx); busy {
				pause = 0
			}
		case ctx.Err() != nil:
		case errors.Is(err, gateway.ErrNotActivated):
			return err
		default:
			pause = v.link.bad(err)
		}
		v.await(ctx, pause)
	}
	return nil
}

// await waits for d or, where that comes first, for the running sync's end.
func (v *visit) await(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case o := <-v.sync:
		v.finish(ctx, o)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// begin starts a sync where there is something to do. It returns how long
// the parent need not be asked.
func (v *visit) begin(ctx context.Context) time.Duration {
	if v.sync != nil {
		v.progress()
		return reportEvery
	}
	_, pending, failed, err := v.engine.Counts(ctx)
	if err != nil {
		return v.link.bad(local(err))
	}
	if pending+failed == 0 || !v.news && v.now().Before(v.retryAt) {
		return leastPause
	}
	v.news = false
	v.start(ctx, pending+failed)
	return firstReport
}

// start lets a sync run until ctx ends.
func (v *visit) start(ctx context.Context, items int) {
	v.log.Info("sync started", "items", items)
	v.setRunning(true)
	v.remember(ctx, func(m *memory) { m.SyncStart, m.SyncState = v.now(), stateSyncing })
	done := make(chan outcome, 1)
	v.sync = done
	go func() {
		result, err := v.engine.Sync(ctx, v.parent)
		done <- outcome{result, err}
	}()
}

// progress lets people see that a long sync moves.
func (v *visit) progress() {
	p := v.engine.Progress()
	v.log.Info("sync goes on", "items", p.ItemsDone, "of", p.ItemsTotal, "bytes", p.BytesDone, "ofBytes", p.BytesTotal)
}

// finish notes how the sync ended.
func (v *visit) finish(ctx context.Context, o outcome) {
	v.sync = nil
	v.setRunning(false)
	now := v.now()
	state := stateSucceeded
	switch {
	case ctx.Err() != nil && o.err != nil:
		state = statePending
	case o.err != nil || o.Failed > 0:
		state = stateFailed
	default:
		v.retry.Reset()
	}
	v.retryAt = now.Add(v.retry.NextBackOff())
	v.remember(ctx, func(m *memory) {
		m.SyncEnd, m.SyncState = now, state
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
		v.log.Info("sync stopped, and goes on from the same byte", append(attrs, "err", context.Cause(ctx))...)
	default:
		if o.err != nil {
			attrs = append(attrs, "err", o.err)
		}
		v.log.Warn("sync finished with failures", append(attrs, "retry", v.retryAt)...)
	}
}

// poll tells the parent how things are, asks what changed, and notes it. It
// reports whether the parent has more to tell at once.
func (v *visit) poll(ctx context.Context) (more bool, err error) {
	m := v.recalled()
	cursor, err := v.engine.Cursor(ctx)
	if err != nil {
		return false, local(err)
	}
	report, err := v.report(ctx)
	if err != nil {
		return false, local(err)
	}
	q := gateway.PollRequest{
		InstanceID: v.control.InstanceID(), Cursor: cursor, DesiredVersion: m.DesiredVersion,
		WaitSeconds: int(v.hold(m) / time.Second),
	}
	if v.reported == nil || !same(report, v.reported) {
		q.Report = report
	}
	a, err := v.parent.Poll(ctx, q)
	if err != nil {
		return false, err
	}
	v.reported = report
	if a.Desired != nil {
		if err := v.obey(ctx, a.Desired); err != nil {
			return false, err
		}
	}
	return a.More, v.note(ctx, a, cursor)
}

// hold is how long the parent may hold the next poll.
func (v *visit) hold(m memory) time.Duration {
	switch {
	case v.sync != nil, !m.Following:
		return 0
	case v.retryAt.After(v.now()):
		return min(holdFor, v.retryAt.Sub(v.now()).Truncate(time.Second)+time.Second)
	}
	return holdFor
}

// note hands what changed to the engine, or everything there is, where the
// cursor does not lead from here to there.
func (v *visit) note(ctx context.Context, a *gateway.PollResponse, cursor int64) error {
	m := v.recalled()
	switch {
	case !m.Following:
		return v.snapshot(ctx, triggerInitial)
	case a.TakeSnapshot, m.Feed != a.Feed:
		return v.snapshot(ctx, triggerRecovery)
	case !m.sees(m.Self.Permissions):
		return v.snapshot(ctx, triggerPermissions)
	case a.Cursor == cursor && len(a.Changes) == 0:
		return nil
	}
	v.news = v.news || len(a.Changes) > 0
	return local(v.engine.ApplyChanges(ctx, a.Changes, a.Cursor))
}

// snapshot hands everything that the parent has for this registry to the
// engine. What was here and is not among it goes with the next sync, after
// everything new is in place: so a narrowed scope is cleaned up, too.
func (v *visit) snapshot(ctx context.Context, trigger string) error {
	v.log.Info("taking stock of all that the parent has", "trigger", trigger)
	permissions := v.recalled().Self.Permissions
	var cursor int64
	var feed, after string
	items := 0
	for first := true; ; first = false {
		page, err := v.page(ctx, after)
		if err != nil {
			return err
		}
		if first {
			cursor, feed = page.Cursor, page.Feed
		}
		last := page.Next == ""
		if err := v.engine.ApplySnapshot(ctx, page.Items, cursor, first, last); err != nil {
			return local(err)
		}
		items += len(page.Items)
		if last {
			v.news = true
			v.remember(ctx, func(m *memory) {
				m.Following, m.Feed, m.Permissions, m.SyncTrigger = true, feed, permissions, trigger
			})
			v.log.Info("took stock", "items", items)
			return nil
		}
		after = page.Next
	}
}

// page asks for a page of the snapshot until it comes: a cut must not let
// the pages before it be asked for again.
func (v *visit) page(ctx context.Context, after string) (*gateway.SnapshotPage, error) {
	for {
		page, err := v.parent.Snapshot(ctx, after)
		if err == nil || refused(err) || ctx.Err() != nil {
			return page, err
		}
		if answer := (*gateway.AnswerError)(nil); errors.As(err, &answer) && answer.Status < 500 {
			return nil, err
		}
		if !sleep(ctx, v.link.bad(err)) {
			return nil, context.Cause(ctx)
		}
	}
}
