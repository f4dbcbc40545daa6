package connected

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

const (
	// holdFor is how long the parent is asked to hold a poll until something changes.
	holdFor = time.Minute
	// leastPause is the pause between two polls that bring nothing, even if the parent holds none.
	leastPause = time.Second
	// The report of a change at a descendant waits for other changes. It contains all descendants,
	// so the wait grows with their number.
	changePause    = 3 * time.Second
	descendantTime = 50 * time.Millisecond
)

// A pass over every repository sends one poll after the other. No parent with 5,000 items in an
// answer needs more of them than pollBurst, and then pollRate a second.
const (
	pollRate  = 2
	pollBurst = 100
)

// A session is one open window. One goroutine polls the parent, one request at a
// time; beside it runs at most one sync.
//
// Begin with [session.pollUntilEnd]. Polls are in poll.go, syncs in syncrun.go.
type session struct {
	*Agent
	end      context.CancelCauseFunc
	reported *wire.Report  // the last report that the parent answered
	changed  bool          // something changed that no sync has looked at
	polls    *rate.Limiter // for polls without a pause between them

	sync     chan outcome    // receives the outcome of the running sync; nil while none runs
	syncCtx  context.Context // ends when the running sync must stop
	syncOver context.Context // ends when the running sync has ended
	loggedAt time.Time       // when the progress of the running sync was last logged
	retry    *retry.Backoff  // the pauses between syncs of failed items
	failures int             // syncs with failed items, in a row
	retryAt  time.Time       // when the next sync of failed items is due

	records recordLink

	// notBefore is when this registry may begin to fetch changes: the children of one parent spread
	// their requests.
	notBefore   time.Time
	damageFound <-chan struct{} // closed if content was found damaged since the last look

	answers      chan struct{} // receives when the parent has answered a poll, for the sender of changes
	sendProgress chan struct{} // receives when the sender of changes has something to report
}

// runSession keeps this registry in sync until the window closes, the parent ends the activation,
// or ctx ends.
func (a *Agent) runSession(ctx context.Context) {
	window, cancel := context.WithCancelCause(ctx)
	wakeup := a.awaitWakeup() // first, so that no wake-up is missed
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		a.closeWindow(window, cancel, wakeup)
	}()
	s := &session{
		Agent: a, end: cancel, retry: retry.NewBackoff(itemPause, itemMaxPause, pauseFactor),
		polls: rate.NewLimiter(pollRate, pollBurst), damageFound: a.options.Content.DamageFound(),
		answers: make(chan struct{}, 1), sendProgress: make(chan struct{}, 1),
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if a.outbox != nil {
			s.sendChanges(window)
		}
	}()
	err := s.pollUntilEnd(window)
	cancel(err)
	<-closed
	<-sent
	if s.sync != nil {
		s.finishSync(<-s.sync)
	}
	if errors.Is(err, gateway.ErrNotActivated) && ctx.Err() == nil {
		a.deactivated(ctx, err)
	}
}

// pollUntilEnd polls, and starts syncs, until ctx ends or the parent no longer knows the activation.
// In the second case, it returns [gateway.ErrNotActivated].
func (s *session) pollUntilEnd(ctx context.Context) error {
	for ctx.Err() == nil {
		s.noticeDamage()
		more, err := s.poll(ctx)
		var pause time.Duration
		if err == nil {
			// Items that failed because the link was down are tried again now.
			s.changed = s.parentAnswered(ctx) || s.changed
			pause, err = s.syncIfDue(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errSyncOver): // the next poll reports it
			s.finishSync(<-s.sync)
			continue
		case errors.Is(err, errOutboxChanged):
			s.changed, s.notBefore = true, time.Time{} // after a conflict, the parent's tag is fetched
			pause = s.polls.Reserve().Delay()
		case errors.Is(err, errDamageFound), errors.Is(err, errReportsChanged),
			errors.Is(err, errEventsRecorded): // the next poll is due
			pause = s.polls.Reserve().Delay()
		case errors.Is(err, gateway.ErrNotActivated):
			return err
		case err != nil:
			pause = s.pauseAfterFailure(ctx, err)
		case more:
			pause = s.polls.Reserve().Delay()
		}
		s.sleepOrFinishSync(ctx, pause)
	}
	return nil
}

// sleepOrFinishSync waits for d, or until the running sync ends if that is earlier.
func (s *session) sleepOrFinishSync(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case o := <-s.sync:
		s.finishSync(o)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// noticeDamage makes a sync due if content was found damaged since the last look. That sync begins
// at once: spreading requests is for changes, which all children see at the same time.
func (s *session) noticeDamage() {
	select {
	case <-s.damageFound:
		s.damageFound = s.options.Content.DamageFound()
		s.changed, s.notBefore = true, time.Time{}
	default:
	}
}

// holdTime returns how long the parent may hold the next poll. It is zero while there may be
// something to do here. It is zero while the link is down, too, because the answer shows that the
// link is up again. While a sync runs, it is the time until the next report is due.
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
