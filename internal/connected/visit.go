package connected

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// holdFor is how long the parent is asked to hold a poll until something
// changes.
const holdFor = time.Minute

// leastPause is between two polls that bring nothing, whatever the parent
// thinks of holding them.
const leastPause = time.Second

// errSyncOver is why a held poll is given up.
var errSyncOver = errors.New("the sync is over")

// A visit is one open window. One goroutine asks the parent what there is to
// do and tells it how things are, one request at a time; beside it runs at
// most one sync.
type visit struct {
	*Agent
	end      context.CancelCauseFunc
	sync     chan outcome    // of the running sync; nil while none runs
	syncing  context.Context // of it
	over     context.Context // ended when it has
	told     time.Time       // when the log last said how far it is
	reported *wire.Report
	news     bool      // something was noted that no sync has looked at
	retryAt  time.Time // when what the last sync left open is due again
	retry    *retry.Backoff

	// notBefore is when this registry's turn comes to fetch what changed: the
	// fleet of one parent spreads its requests.
	notBefore time.Time
}

// follow keeps in step with the parent until the window closes, the parent
// takes the activation away, or ctx ends.
func (a *Agent) follow(ctx context.Context) {
	window, cancel := context.WithCancelCause(ctx)
	woken := a.wakes() // before the visit looks at what somebody may change
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		a.closeWindow(window, cancel, woken)
	}()
	v := &visit{Agent: a, end: cancel, retry: retry.NewBackoff(itemPause, itemMaxPause, pauseFactor)}
	err := v.run(window)
	cancel(err)
	<-closed
	if v.sync != nil {
		v.finish(<-v.sync)
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
			v.news = v.good(ctx) || v.news
			if pause = v.begin(ctx); busy {
				pause = 0
			}
		case ctx.Err() != nil:
		case errors.Is(err, errSyncOver): // the parent hears of it with the next poll
			v.finish(<-v.sync)
			continue
		case errors.Is(err, gateway.ErrNotActivated):
			return err
		default:
			pause = v.bad(err)
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
		v.finish(o)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// poll tells the parent how things are, asks what changed, and records it. It
// reports whether there is more to ask for at once.
func (v *visit) poll(ctx context.Context) (more bool, err error) {
	m := v.recalled()
	place, err := v.engine.Place(ctx)
	if err != nil {
		return false, local(err)
	}
	report, err := v.report(ctx)
	if err != nil {
		return false, local(err)
	}
	var q wire.PollRequest
	if m.Resync == m.Self.Resync { // else an operator wants every repository listed anew
		q = gateway.PollRequestOf(place)
	}
	q.InstanceID, q.DesiredVersion = v.instanceID, m.DesiredVersion
	q.WaitSeconds = int(v.hold(m, place) / time.Second)
	if v.reported == nil || !same(report, v.reported) {
		q.Report = report
	}
	a, err := v.ask(ctx, q)
	if err != nil {
		return false, err
	}
	v.reported = report
	if a.Desired != nil {
		if err := v.obey(ctx, a.Desired); err != nil {
			return false, err
		}
		if self := v.recalled().Self; self.ByteBudget != m.Self.ByteBudget || !slices.Equal(self.Priorities, m.Self.Priorities) {
			v.retryAt = time.Time{} // what waited may be fetched now
		}
		if !v.clockwork().open(v.now()) {
			v.end(errWindowClosed)
		}
	}
	return v.record(ctx, m, q, a)
}

// ask polls. A poll that is held is given up with [errSyncOver] when the sync
// that runs beside it ends, for then there is something to tell.
func (v *visit) ask(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error) {
	if v.sync == nil || q.WaitSeconds == 0 {
		return v.parent.Poll(ctx, q)
	}
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(v.over, func() { cancel(errSyncOver) })
	defer stop()
	a, err := v.parent.Poll(held, q)
	if err != nil && errors.Is(context.Cause(held), errSyncOver) {
		return nil, errSyncOver
	}
	return a, err
}

// hold is how long the parent may hold the next poll: not at all while there
// is, or may be, something to do here, or to find out whether the link is
// back; while a sync runs, until it is to hear how far that is.
func (v *visit) hold(m memory, p replication.Place) time.Duration {
	broke, _ := m.broke(v.now())
	idle := broke || m.Paused
	switch {
	case v.reported == nil, !p.Current(), m.Resync != m.Self.Resync, !v.link.down.IsZero():
		return 0
	case v.sync != nil:
		return reportEvery
	case v.news && !idle && v.notBefore.After(v.now()):
		return min(holdFor, v.notBefore.Sub(v.now()).Truncate(time.Second)+time.Second)
	case v.news && !idle:
		return 0
	case idle:
		return holdFor
	case v.retryAt.After(v.now()):
		return min(holdFor, v.retryAt.Sub(v.now()).Truncate(time.Second)+time.Second)
	}
	return holdFor
}

// record hands the parent's answer to q, which was asked as m says, to the
// engine. It reports whether there is more to ask for at once.
func (v *visit) record(ctx context.Context, m memory, q wire.PollRequest, a *wire.PollResponse) (more bool, err error) {
	if a.Restart {
		trigger := m.trigger(q, a)
		v.log.Info("the parent lists every repository", "trigger", trigger)
		v.remember(ctx, func(now *memory) { now.SyncTrigger, now.Resync = trigger, m.Self.Resync })
	}
	changed, err := v.engine.ApplyAnswer(ctx, gateway.AnswerOf(a))
	if err != nil {
		return false, local(err)
	}
	if changed {
		v.spread(m, a)
	}
	place, err := v.engine.Place(ctx)
	if err != nil {
		return false, local(err)
	}
	ended := (q.Pass > 0 || a.Restart) && place.Pass == 0 // there is something to say, also where nothing changed
	v.news = v.news || changed || ended
	return a.More || !place.Current(), nil
}

// trigger says why the parent lists every repository, in answer to q.
func (m memory) trigger(q wire.PollRequest, a *wire.PollResponse) string {
	switch {
	case m.Resync != m.Self.Resync && m.SyncTrigger != "":
		return triggerResync
	case q.Feed == "":
		return triggerInitial
	case q.Feed == a.Feed && q.Subscription != a.Subscription:
		return triggerPermissions
	}
	return triggerRecovery
}

// spread puts off what the answer changed, by a chance of the time that the
// parent's children spread their requests over. What is urgent is not put off,
// nor is what waits already put off for longer.
func (v *visit) spread(m memory, a *wire.PollResponse) {
	urgent := func(l wire.Listing) bool { return m.urgency().Of(l.Repository) == subscription.Urgent }
	switch now := v.now(); {
	case slices.ContainsFunc(a.Listings, urgent):
		v.notBefore = time.Time{}
	case a.SpreadSeconds > 0 && !v.notBefore.After(now):
		v.notBefore = now.Add(rand.N(min(time.Duration(a.SpreadSeconds)*time.Second, maxSpread)))
	}
}

// maxSpread bounds what a parent can ask for.
const maxSpread = time.Hour
