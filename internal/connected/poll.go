package connected

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// maxSpread is the longest time that a parent can ask its children to wait.
const maxSpread = time.Hour

// errNoProgress is a parent whose answers promise more and bring nothing new.
var errNoProgress = errors.New("the parent promises more, and sends nothing new")

// The causes with which this registry ends a poll that the parent holds.
var (
	errSyncOver    = errors.New("the sync has ended") // the next poll reports it
	errDamageFound = errors.New("content was found damaged")
	// The next poll reports it.
	errReportsChanged = errors.New("a descendant has reported a change")
	// The next poll sends them.
	errEventsRecorded = errors.New("events were recorded")
)

// poll sends the report, asks the parent for changes, and records them. It returns true if the next
// poll is due at once, because the answer was not all.
func (s *session) poll(ctx context.Context) (more bool, err error) {
	st := s.current()
	position, err := s.engine.Position(ctx)
	if err != nil {
		return false, err
	}
	below := s.options.Fleet.ReportsChanged() // before the report, so that no change is missed
	report, err := s.report(ctx)
	if err != nil {
		return false, err
	}
	var q wire.PollRequest
	if st.Resync == st.Self.Resync { // else an operator asked for a listing of every repository
		q = gateway.PollRequestOf(position)
	}
	q.InstanceID, q.DesiredVersion = s.options.InstanceID, st.DesiredVersion
	q.WaitSeconds = int(s.holdTime(st, position) / time.Second)
	if s.reported == nil || !sameReport(report, s.reported) {
		q.Report = report
	}
	suspects := s.engine.CorruptBlobs()
	for _, suspect := range suspects {
		q.Suspects = append(q.Suspects, wire.Want(suspect))
	}
	recorded := s.options.Records.Appended() // before they are read, so that none is missed
	if err := s.addRecords(ctx, &q); err != nil {
		return false, err
	}
	wait := min(changePause+time.Duration(len(report.Descendants))*descendantTime, holdFor)
	q.PasswordChanges = s.passwordChanges()
	var a *wire.PollResponse
	err = s.withLogin(ctx, func() (err error) {
		a, err = s.ask(ctx, q, interruptions{below, wait, s.records.toSend(recorded, s.now())})
		return err
	})
	if err != nil {
		return false, parentError{err}
	}
	s.reported = report
	moreRecords, err := s.recordsSent(ctx, a.Stored)
	if err != nil {
		return false, err
	}
	s.engine.MarkReported(suspects)
	if a.Desired != nil {
		if err := s.applyDesired(ctx, a.Desired); err != nil {
			return false, err
		}
		self := s.current().Self
		if self.ByteBudget != st.Self.ByteBudget || !slices.Equal(self.Priorities, st.Self.Priorities) {
			s.retryAt = time.Time{} // items that waited may be fetched now
		}
		if open, _ := s.windows().Open(s.now()); !open {
			s.end(errWindowClosed)
		}
	}
	s.parentHeard(ctx, a)
	if more, err = s.record(ctx, st, q, a); err != nil || !more {
		return moreRecords, err
	}
	now, err := s.engine.Position(ctx)
	if err == nil && reflect.DeepEqual(position, now) {
		err = parentError{errNoProgress}
	}
	return err == nil, err
}

// interruptions are changes that end a held poll, after a while, so that the next poll reports them.
type interruptions struct {
	reported <-chan struct{} // a descendant has reported a change
	wait     time.Duration   // how long that may wait
	recorded <-chan struct{} // events were recorded
}

// ask sends a poll. If the parent holds it, it ends with [errSyncOver] when the running sync ends,
// and with [errReportsChanged] or [errEventsRecorded] a while after one of the interruptions. If no
// sync runs, it ends with [errDamageFound] when content is found damaged. It ends with [errOutboxChanged]
// when changes of clients were sent or refused.
func (s *session) ask(ctx context.Context, q wire.PollRequest, in interruptions) (*wire.PollResponse, error) {
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
		var due, sendDue <-chan time.Time
		for held.Err() == nil {
			select {
			case <-over:
				cancel(errSyncOver)
			case <-damaged:
				cancel(errDamageFound)
			case <-s.sendProgress:
				cancel(errOutboxChanged)
			case <-in.reported:
				in.reported, due = nil, time.After(in.wait)
			case <-due:
				cancel(errReportsChanged)
			case <-in.recorded:
				in.recorded, sendDue = nil, time.After(changePause)
			case <-sendDue:
				cancel(errEventsRecorded)
			case <-held.Done():
			}
		}
	}()
	a, err := s.parent.Poll(held, q)
	cancel(nil)
	<-watched
	switch cause := context.Cause(held); {
	case err == nil:
	case cause == errSyncOver, cause == errDamageFound, cause == errReportsChanged, cause == errEventsRecorded,
		cause == errOutboxChanged:
		return nil, cause
	}
	return a, err
}

// record gives the parent's answer to the engine. The question was q, and st the state at that
// time. It returns true if the next poll is due at once.
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
	position, err := s.engine.Position(ctx)
	if err != nil {
		return false, err
	}
	// The end of a pass must be reported, even without a change.
	ended := (q.Pass > 0 || a.Restart) && position.Pass == 0
	s.changed = s.changed || changed || ended
	return a.More || !position.Current(), nil
}

// checkContent compares the stored files with the database, because a resync compares the database
// with the parent. Images whose files are lost are pending afterwards.
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
	return s.options.Content.Start(ctx)
}

// trigger returns why the parent lists every repository in its answer to q.
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

// spread delays the fetching of changes by a random part of the time over which the parent's
// children spread their requests. Urgent repositories are not delayed, and a delay is not made
// longer.
func (s *session) spread(st state, a *wire.PollResponse) {
	urgent := func(l wire.Listing) bool { return st.priorities().Of(l.Repository) == subscription.Urgent }
	switch now := s.now(); {
	case slices.ContainsFunc(a.Listings, urgent):
		s.notBefore = time.Time{}
	case a.SpreadSeconds > 0 && !s.notBefore.After(now):
		s.notBefore = now.Add(rand.N(min(time.Duration(a.SpreadSeconds)*time.Second, maxSpread)))
	}
}
