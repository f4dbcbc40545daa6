package connected

import (
	"context"
	"time"

	"ferry/internal/events"
	"ferry/internal/wire"
)

// recordPause is how long events wait after the parent did not take all of them.
const recordPause = 30 * time.Second

// A recordLink is the state of sending events and audit entries to the parent, which takes them if
// its last answer said so.
type recordLink struct {
	taken     bool         // the parent takes events
	notBefore time.Time    // when events may be sent again
	sent      events.Batch // with the last poll
}

// toSend returns a channel that is closed when there are events to send; nil if they cannot be sent.
func (l *recordLink) toSend(recorded <-chan struct{}, now time.Time) <-chan struct{} {
	if !l.taken || !l.sent.Empty() || now.Before(l.notBefore) {
		return nil
	}
	return recorded
}

// addRecords adds the next events and audit entries to a poll, which the parent then does not hold.
func (s *session) addRecords(ctx context.Context, q *wire.PollRequest) (err error) {
	s.records.sent = events.Batch{}
	if !s.records.taken || s.now().Before(s.records.notBefore) {
		return nil
	}
	if s.records.sent, err = s.options.Records.Outgoing(ctx); err != nil || s.records.sent.Empty() {
		return err
	}
	q.Events, q.Audit, q.WaitSeconds = s.records.sent.Events, s.records.sent.Audit, 0
	return nil
}

// recordsSent records what the parent has stored of the last poll. It returns true if others can be
// sent at once.
func (s *session) recordsSent(ctx context.Context, stored *wire.Stored) (more bool, err error) {
	first := !s.records.taken && stored != nil
	s.records.taken = stored != nil
	sent := s.records.sent
	if stored == nil {
		return false, nil
	}
	if first {
		next, err := s.options.Records.Outgoing(ctx)
		return !next.Empty(), err
	}
	if sent.Empty() {
		return false, nil
	}
	if stored.Events < len(sent.Events) || stored.Audit < len(sent.Audit) {
		s.records.notBefore = s.now().Add(recordPause)
	}
	return sent.More, s.options.Records.Forwarded(ctx, sent, *stored)
}

// noRecords are the records of an agent without any.
type noRecords struct{}

func (noRecords) Outgoing(context.Context) (events.Batch, error)             { return events.Batch{}, nil }
func (noRecords) Forwarded(context.Context, events.Batch, wire.Stored) error { return nil }
func (noRecords) Appended() <-chan struct{}                                  { return nil }
