package connected

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

const (
	// holdFor is how long the parent is asked to hold a poll until something changes.
	holdFor = time.Minute
	// leastPause is between two polls that bring nothing, however long the parent
	// holds them.
	leastPause = time.Second
	// firstReport and reportEvery say how often the parent hears of a running
	// sync: soon after its start, then now and then.
	firstReport = 2 * time.Second
	reportEvery = 30 * time.Second
	// itemPause and itemMaxPause say how long items that failed wait for another
	// try, unless something changes.
	itemPause    = time.Minute
	itemMaxPause = 15 * time.Minute
	// maxSpread bounds how long a parent can ask its children to wait.
	maxSpread = time.Hour
)

// errNoProgress is a parent that has more to tell, and tells the same again.
var errNoProgress = errors.New("the parent has more to tell, and tells nothing new")

// A pass over everything polls at once, again and again. No parent with 5,000 items
// in an answer needs more of these than pollBurst, and then pollRate a second.
const (
	pollRate  = 2
	pollBurst = 100
)

// The causes with which this registry ends a poll that the parent holds.
var (
	errSyncOver    = errors.New("the sync is over") // there is something to report
	errDamageFound = errors.New("content was found damaged")
)

// A session is one open window. One goroutine polls the parent, one request at a
// time; beside it runs at most one sync.
type session struct {
	*Agent
	end      context.CancelCauseFunc
	reported *wire.Report // the last report that the parent answered
	changed  bool         // something changed that no sync has looked at

	sync     chan outcome    // gets the outcome of the running sync; nil while none runs
	syncCtx  context.Context // ends when the running sync must stop
	syncOver context.Context // ends when the running sync has ended
	loggedAt time.Time       // when its progress was logged last
	retry    *retry.Backoff  // between syncs of items that failed
	retryAt  time.Time       // when the next of these is due

	polls *rate.Limiter // at once, one after the other

	damageFound <-chan struct{} // closed when content was found damaged since the last look

	// notBefore is when this registry may begin to fetch what changed: the
	// children of one parent spread their requests.
	notBefore time.Time
}

// An outcome is how a sync ended.
type outcome struct {
	replication.Result
	err error
}

// runSession keeps in step with the parent until the window closes, the parent
// takes the activation away, or ctx ends.
func (a *Agent) runSession(ctx context.Context) {
	window, cancel := context.WithCancelCause(ctx)
	wakeup := a.awaitWakeup() // before the session looks at what somebody may change
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		a.closeWindow(window, cancel, wakeup)
	}()
	s := &session{
		Agent: a, end: cancel, retry: retry.NewBackoff(itemPause, itemMaxPause, pauseFactor),
		polls: rate.NewLimiter(pollRate, pollBurst), damageFound: a.options.Content.DamageFound(),
	}
	err := s.run(window)
	cancel(err)
	<-closed
	if s.sync != nil {
		s.finishSync(<-s.sync)
	}
	if errors.Is(err, gateway.ErrNotActivated) && ctx.Err() == nil {
		a.deactivated(ctx, err)
	}
}

// run returns [gateway.ErrNotActivated], or nil when ctx ends.
func (s *session) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.noticeDamage()
		more, err := s.poll(ctx)
		var pause time.Duration
		if err == nil {
			// What failed for want of a link has one now.
			s.changed = s.parentAnswered(ctx) || s.changed
			pause, err = s.syncIfDue(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errSyncOver): // the next poll reports it
			s.finishSync(<-s.sync)
			continue
		case errors.Is(err, errDamageFound): // the next poll is not held
			pause = s.polls.Reserve().Delay()
		case errors.Is(err, gateway.ErrNotActivated):
			return err
		case err != nil:
			pause = s.failed(ctx, err)
		case more:
			pause = s.polls.Reserve().Delay()
		}
		s.wait(ctx, pause)
	}
	return nil
}

// wait waits for d or, if that comes first, for the running sync's end.
func (s *session) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case o := <-s.sync:
		s.finishSync(o)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// poll reports to the parent, asks what changed, and records it. It reports
// whether there is more to ask for at once.
func (s *session) poll(ctx context.Context) (more bool, err error) {
	st := s.current()
	place, err := s.engine.Position(ctx)
	if err != nil {
		return false, err
	}
	report, err := s.report(ctx)
	if err != nil {
		return false, err
	}
	var q wire.PollRequest
	if st.Resync == st.Self.Resync { // else an operator wants every repository listed anew
		q = gateway.PollRequestOf(place)
	}
	q.InstanceID, q.DesiredVersion = s.options.InstanceID, st.DesiredVersion
	q.WaitSeconds = int(s.holdTime(st, place) / time.Second)
	if s.reported == nil || !sameReport(report, s.reported) {
		q.Report = report
	}
	suspects := s.engine.CorruptBlobs()
	for _, suspect := range suspects {
		q.Suspects = append(q.Suspects, wire.Want(suspect))
	}
	a, err := s.ask(ctx, q)
	if err != nil {
		return false, parentError{err}
	}
	s.reported = report
	s.engine.MarkReported(suspects)
	if a.Desired != nil {
		if err := s.applyDesired(ctx, a.Desired); err != nil {
			return false, err
		}
		self := s.current().Self
		if self.ByteBudget != st.Self.ByteBudget || !slices.Equal(self.Priorities, st.Self.Priorities) {
			s.retryAt = time.Time{} // what waited may be fetched now
		}
		if open, _ := s.windows().Open(s.now()); !open {
			s.end(errWindowClosed)
		}
	}
	if more, err = s.record(ctx, st, q, a); err != nil || !more {
		return more, err
	}
	now, err := s.engine.Position(ctx)
	if err == nil && reflect.DeepEqual(place, now) {
		err = parentError{errNoProgress}
	}
	return err == nil, err
}

// ask polls. A poll that is held ends with [errSyncOver] when the sync that runs beside it ends.
// Without one it ends with [errDamageFound] when content is found damaged.
func (s *session) ask(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error) {
	if q.WaitSeconds == 0 {
		return s.parent.Poll(ctx, q)
	}
	held, cancel := context.WithCancelCause(ctx)
	over, damaged := (<-chan struct{})(nil), s.damageFound
	if s.sync != nil {
		over, damaged = s.syncOver.Done(), nil
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-over:
			cancel(errSyncOver)
		case <-damaged:
			cancel(errDamageFound)
		case <-held.Done():
		}
	}()
	a, err := s.parent.Poll(held, q)
	cancel(nil)
	<-watched
	if cause := context.Cause(held); err != nil && (cause == errSyncOver || cause == errDamageFound) {
		return nil, cause
	}
	return a, err
}

// noticeDamage makes a sync due if content was found damaged since the last look. It does not
// wait for the time over which children spread their requests: the others have no damage.
func (s *session) noticeDamage() {
	select {
	case <-s.damageFound:
		s.damageFound = s.options.Content.DamageFound()
		s.changed, s.notBefore = true, time.Time{}
	default:
	}
}

// holdTime is how long the parent may hold the next poll: not at all while there
// is, or may be, something to do here, or to find out whether the link is
// back; while a sync runs, until the next report of it is due.
func (s *session) holdTime(st state, p replication.Position) time.Duration {
	now := s.now()
	until := func(t time.Time) time.Duration { return min(holdFor, t.Sub(now).Truncate(time.Second)+time.Second) }
	spent, _ := st.budgetSpent(now)
	switch {
	case s.reported == nil, !p.Current(), st.Resync != st.Self.Resync, s.link.isDown():
		return 0
	case s.sync != nil:
		return reportEvery
	case spent, st.Paused:
		return holdFor
	case s.changed && s.notBefore.After(now):
		return until(s.notBefore)
	case s.changed:
		return 0
	case s.retryAt.After(now):
		return until(s.retryAt)
	}
	return holdFor
}

// record hands the parent's answer to q, which was asked in state st, to the
// engine. It reports whether there is more to ask for at once.
func (s *session) record(
	ctx context.Context, st state, q wire.PollRequest, a *wire.PollResponse,
) (more bool, err error) {
	if a.Restart {
		trigger := st.trigger(q, a)
		s.log.Info("the parent lists every repository", "trigger", trigger)
		if trigger == triggerResync {
			if err := s.checkContent(ctx, st); err != nil {
				return false, err
			}
		}
		s.update(ctx, func(now *state) {
			now.SyncTrigger, now.Resync, now.Verify = trigger, st.Self.Resync, st.Self.Verify
		})
	}
	changed, err := s.engine.ApplyAnswer(ctx, gateway.AnswerOf(a))
	if err != nil {
		return false, err
	}
	if changed {
		s.spread(st, a)
	}
	place, err := s.engine.Position(ctx)
	if err != nil {
		return false, err
	}
	ended := (q.Pass > 0 || a.Restart) && place.Pass == 0 // which must be reported, also if nothing changed
	s.changed = s.changed || changed || ended
	return a.More || !place.Current(), nil
}

// checkContent compares what is stored here with what is recorded of it, as a resync does with
// what the parent has: what is lost is pending afterwards.
func (s *session) checkContent(ctx context.Context, st state) error {
	lost, err := s.options.Content.CheckFiles(ctx)
	if err != nil {
		s.log.Error("files of blobs are not checked", "err", err)
	} else {
		s.log.Info("checked the files of all blobs", "lost", lost)
	}
	if st.Verify == st.Self.Verify {
		return nil
	}
	return s.options.Content.Order(ctx)
}

// trigger says why the parent lists every repository, in answer to q.
func (st state) trigger(q wire.PollRequest, a *wire.PollResponse) string {
	switch {
	case st.Resync != st.Self.Resync && st.SyncTrigger != "":
		return triggerResync
	case q.Feed == "":
		return triggerInitial
	case q.Feed == a.Feed && q.Subscription != a.Subscription:
		return triggerPermissions
	}
	return triggerRecovery
}

// spread delays the fetching of what changed, at random within the time over
// which the parent's children spread their requests. What is urgent is not
// delayed, and what is delayed already is not delayed further.
func (s *session) spread(st state, a *wire.PollResponse) {
	urgent := func(l wire.Listing) bool { return st.priorities().Of(l.Repository) == subscription.Urgent }
	switch now := s.now(); {
	case slices.ContainsFunc(a.Listings, urgent):
		s.notBefore = time.Time{}
	case a.SpreadSeconds > 0 && !s.notBefore.After(now):
		s.notBefore = now.Add(rand.N(min(time.Duration(a.SpreadSeconds)*time.Second, maxSpread)))
	}
}

// syncIfDue starts a sync if there is something to do. It returns how long the
// parent need not be asked.
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
		return 0, nil // the parent awaits the report
	case items == 0, !s.changed && s.now().Before(s.retryAt), s.now().Before(s.notBefore):
		return leastPause, nil
	}
	if !s.startSync(ctx, items) {
		return leastPause, nil
	}
	s.changed = false
	return firstReport, nil
}

// advanceWatermarks saves up to where everything is here that is not lacking for
// good, while no sync runs.
func (s *session) advanceWatermarks(ctx context.Context) error {
	place, err := s.engine.Position(ctx)
	if err != nil {
		return err
	}
	known := place.Known()
	if known == nil {
		return nil
	}
	lacking, all, err := s.lacking(ctx, place)
	if st := s.current(); err == nil && all &&
		!(maps.Equal(known, st.Watermarks) && slices.Equal(lacking, st.Lacking)) {
		s.update(ctx, func(st *state) { st.Watermarks, st.Lacking = known, lacking })
	}
	return err
}

// markInSync records that something changed, and that there is nothing to do
// about it: the parent has nothing for this registry, or only what is here.
func (s *session) markInSync(ctx context.Context) {
	now := s.now()
	s.update(ctx, func(st *state) {
		st.SyncStart, st.SyncEnd, st.SyncSuccess, st.SyncState = now, now, now, stateSucceeded
		st.Details = nil // what an earlier sync left open is gone from the parent
	})
	s.log.Info("in step; there is nothing to sync")
}

// startSync lets a sync run until ctx ends or somebody pauses it. It reports
// false if syncs are paused, or nothing that is pending may be fetched.
func (s *session) startSync(ctx context.Context, items int) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	urgentOnly, ok := s.syncBegins(cancel)
	if !ok {
		cancel(errPaused)
		return false
	}
	if urgentOnly {
		var err error
		if items, err = s.engine.Wanted(ctx); err != nil || items == 0 {
			s.syncEnded()
			return false
		}
		s.log.Info("the byte budget is spent; only what is urgent is synced")
	}
	s.log.Info("sync started", "items", items)
	s.update(ctx, func(st *state) { st.SyncStart, st.SyncState = s.now(), stateSyncing })
	done := make(chan outcome, 1)
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	s.sync, s.syncCtx, s.syncOver, s.loggedAt = done, ctx, over, s.now()
	go func() {
		defer end()
		result, err := s.engine.Sync(ctx, cappedParent{s.parent, s.Agent})
		done <- outcome{result, err}
	}()
	return true
}

// logProgress logs that a long sync moves, once in a while, and saves what it
// has begun, for a loss of power.
func (s *session) logProgress(ctx context.Context) {
	now := s.now()
	if now.Sub(s.loggedAt) < reportEvery {
		return
	}
	s.loggedAt = now
	s.update(ctx, func(st *state) { st.Left = s.firstInFlight() })
	p := s.engine.Progress()
	s.log.Info("sync goes on", "items", p.ItemsDone, "of", p.ItemsTotal, "bytes", p.BytesDone, "ofBytes", p.BytesTotal)
}

// finishSync records how the sync ended.
func (s *session) finishSync(o outcome) {
	stopped, cause := s.syncCtx.Err() != nil, context.Cause(s.syncCtx)
	ctx := context.WithoutCancel(s.syncCtx)
	s.sync, s.syncCtx, s.syncOver = nil, nil, nil
	result := stateSucceeded
	switch {
	case stopped && o.err != nil:
		result = statePending // nothing failed
	case o.err != nil || o.Failed > 0:
		result = stateFailed
	}
	if result != stateFailed {
		s.retry.Reset()
	}
	if s.syncEnded() && result == stateSucceeded {
		_, pending, failed, err := s.engine.Counts(ctx)
		if err != nil || pending+failed > 0 {
			result, cause = statePending, errBudgetSpent
		}
	}
	now := s.now()
	s.retryAt = now.Add(s.retry.NextBackOff())
	s.update(ctx, func(st *state) {
		st.SyncEnd, st.SyncState, st.Left = now, result, s.firstInFlight()
		if result == stateSucceeded {
			st.SyncSuccess = now
		}
	})
	if result != statePending {
		s.recordFailures(ctx, o)
	}
	attrs := []any{"items", o.Synced, "removed", o.Removed, "failed", o.Failed, "bytes", o.Received,
		"took", now.Sub(s.current().SyncStart).Round(time.Millisecond)}
	switch result {
	case stateSucceeded:
		s.log.Info("sync finished", attrs...)
	case statePending:
		s.log.Info("sync stopped, and goes on from the same byte", append(attrs, "err", cause)...)
	default:
		if o.err != nil {
			attrs = append(attrs, "err", o.err)
		}
		s.log.Warn("sync finished with failures", append(attrs, "retry", s.retryAt)...)
	}
}
