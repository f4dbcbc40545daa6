package connected

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"ferry/internal/replication"
)

const (
	// firstReport and reportEvery say how often a running sync is reported: the first time soon
	// after its start, so that an operator sees it move.
	firstReport = 2 * time.Second
	reportEvery = 30 * time.Second
	// itemPause and itemMaxPause bound how long failed items wait for the next try, unless
	// something changes. The first pauses are short, because a parent heals damage within seconds
	// once a child asks for the content.
	itemPause    = 5 * time.Second
	itemMaxPause = 15 * time.Minute
	// wrongContentPause is the least pause after wrong content, except the first time: each try
	// fetches the blob again, and after a few tries it is quarantined.
	wrongContentPause = time.Minute
)

// An outcome is how a sync ended.
type outcome struct {
	replication.Result
	err error
}

// syncIfDue starts a sync if items are pending and may be fetched now. It returns the pause until
// the next poll.
func (s *session) syncIfDue(ctx context.Context) (time.Duration, error) {
	if s.sync != nil {
		s.logProgress(ctx)
		return leastPause, nil
	}
	_, pending, failed, err := s.engine.Counts(ctx)
	if err != nil {
		return 0, err
	}
	items := pending + failed
	if err := s.advanceWatermarks(ctx); err != nil {
		return 0, err
	}
	switch {
	case items == 0 && s.changed:
		s.changed = false
		s.markInSync(ctx)
		return 0, nil // the parent waits for the report
	case items == 0, !s.changed && s.now().Before(s.retryAt), s.now().Before(s.notBefore):
		return leastPause, nil
	}
	if !s.startSync(ctx, items) {
		return leastPause, nil
	}
	s.changed = false
	return firstReport, nil
}

// advanceWatermarks saves the sequence numbers up to which everything is here, apart from items
// that fail for good. No sync must be running.
func (s *session) advanceWatermarks(ctx context.Context) error {
	position, err := s.engine.Position(ctx)
	if err != nil {
		return err
	}
	known := position.Known()
	if known == nil {
		return nil
	}
	lacking, all, err := s.lacking(ctx, position)
	if st := s.current(); err == nil && all &&
		!(maps.Equal(known, st.Watermarks) && slices.Equal(lacking, st.Lacking)) {
		s.setWatermarks(ctx, known, lacking)
	}
	return err
}

// markInSync records that nothing that the parent listed needs a sync: all of it is here.
func (s *session) markInSync(ctx context.Context) {
	now := s.now()
	s.update(ctx, func(st *state) {
		st.SyncStart, st.SyncEnd, st.SyncSuccess, st.SyncState = now, now, now, stateSucceeded
		st.Details = nil // the items that failed in an earlier sync were deleted at the parent
	})
	s.log.Info("in sync; there is nothing to fetch")
}

// startSync starts a sync, which runs until ctx ends or somebody pauses it. It returns false if
// syncs are paused, or if no pending item may be fetched.
func (s *session) startSync(ctx context.Context, items int) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	urgentOnly, ok := s.beginSync(cancel)
	if !ok {
		cancel(errPaused)
		return false
	}
	if urgentOnly {
		var err error
		if items, err = s.engine.Wanted(ctx); err != nil || items == 0 {
			s.endSync()
			return false
		}
		s.log.Info("the byte budget is spent; only urgent repositories are synced")
	}
	s.log.Info("sync started", "items", items)
	s.update(ctx, func(st *state) { st.SyncStart, st.SyncState = s.now(), stateSyncing })
	done := make(chan outcome, 1)
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	s.sync, s.syncCtx, s.syncOver, s.loggedAt = done, ctx, over, s.now()
	go func() {
		defer end()
		result, err := s.engine.Sync(ctx, limitedParent{s.parent, s.Agent})
		done <- outcome{result, err}
	}()
	return true
}

// logProgress logs the progress of a long sync now and then. It also saves which images the sync
// has begun, because after a loss of power the status still names them.
func (s *session) logProgress(ctx context.Context) {
	now := s.now()
	if now.Sub(s.loggedAt) < reportEvery {
		return
	}
	s.loggedAt = now
	s.update(ctx, func(st *state) { st.InFlight = s.firstInFlight() })
	p := s.engine.Progress()
	s.log.Info("sync is running", "items", p.ItemsDone, "of", p.ItemsTotal,
		"bytes", p.BytesDone, "ofBytes", p.BytesTotal)
}

// retryPause returns the pause before the next sync, unless something changes.
func (s *session) retryPause() time.Duration {
	if s.failures == 0 {
		s.retry.Reset()
		return holdFor
	}
	pause := s.retry.NextBackOff()
	if s.failures > 1 && len(s.engine.CorruptBlobs()) > 0 {
		pause = max(pause, wrongContentPause)
	}
	return pause
}

// finishSync records how the sync ended.
func (s *session) finishSync(o outcome) {
	stopped, cause := s.syncCtx.Err() != nil, context.Cause(s.syncCtx)
	ctx := context.WithoutCancel(s.syncCtx)
	s.sync, s.syncCtx, s.syncOver = nil, nil, nil
	result := stateSucceeded
	switch {
	case stopped && o.err != nil && errors.Is(cause, errWindowClosed):
		result = stateTimedOut
	case stopped && o.err != nil:
		result = statePending // it was stopped, and nothing failed
	case o.err != nil || o.Failed > 0:
		result = stateFailed
	}
	s.failures++
	if result != stateFailed {
		s.failures = 0
	}
	if s.endSync() && result == stateSucceeded {
		_, pending, failed, err := s.engine.Counts(ctx)
		if err != nil || pending+failed > 0 {
			result, cause = statePending, errBudgetSpent
		}
	}
	now := s.now()
	s.retryAt = now.Add(s.retryPause())
	s.update(ctx, func(st *state) {
		st.SyncEnd, st.SyncState, st.InFlight = now, result, s.firstInFlight()
		if result == stateSucceeded {
			st.SyncSuccess = now
		}
	})
	if result != statePending && result != stateTimedOut {
		s.recordFailures(ctx, o)
	}
	if result == stateSucceeded { // now, because the parent holds the next poll
		if err := s.advanceWatermarks(ctx); err != nil {
			s.log.Warn("watermarks are not advanced", "err", err)
		}
	}
	attrs := []any{"items", o.Synced, "removed", o.Removed, "failed", o.Failed, "bytes", o.Received,
		"took", now.Sub(s.current().SyncStart).Round(time.Millisecond)}
	switch result {
	case stateSucceeded:
		s.log.Info("sync finished", attrs...)
	case statePending, stateTimedOut:
		s.log.Info("sync stopped; the next one resumes at the same byte", append(attrs, "err", cause)...)
	default:
		if o.err != nil {
			attrs = append(attrs, "err", o.err)
		}
		s.log.Warn("sync finished with failures", append(attrs, "retry", s.retryAt)...)
	}
}
