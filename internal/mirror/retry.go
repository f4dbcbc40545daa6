package mirror

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"ferry/internal/replication"
	"ferry/internal/retry"
)

// The pauses between questions to a source that does not answer, and between
// runs of a rule that fail temporarily.
const (
	firstPause      = time.Second
	maxPause        = time.Minute
	firstRetryPause = time.Minute
	maxRetryPause   = 30 * time.Minute
)

// A task is a run or an import: it asks its source until that answers, and
// fetches with its engine.
type task struct {
	*Service
	log     *slog.Logger
	engine  *replication.Engine
	slots   slots
	inSlot  bool                   // it has one of them
	failure atomic.Pointer[string] // why the source is asked again; nil while it answers
}

// newTask returns a task whose engine has o's source and rules. It works while it
// has one of slots.
func (s *Service) newTask(log *slog.Logger, slots slots, o replication.Options) *task {
	o.Storage, o.DB, o.Log, o.Now, o.ChunkSize, o.Connections = s.Storage, s.DB, s.Log, s.Now, s.ChunkSize, s.Connections
	return &task{Service: s, log: log, slots: slots, engine: replication.New(o)}
}

// problem says why nothing comes from the source just now; "" if all is well.
func (t *task) problem() string {
	if failure := t.failure.Load(); failure != nil {
		return *failure
	}
	return describe(t.engine.LinkError())
}

// ask calls try until it succeeds, the source refuses, or ctx ends, whose cause
// it returns then. A source that says when to come back is not asked before.
// After any other failure, more decides whether there is another try.
func (t *task) ask(ctx context.Context, more func(error) bool, try func() error) error {
	defer t.failure.Store(nil)
	pauses := retry.NewBackoff(firstPause, maxPause, 1.5)
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err) || !more(err):
			return err
		}
		pause := retry.After(err)
		var until time.Time
		if pause > 0 {
			until = t.Now().Add(pause)
		}
		failure := describe(until, err)
		if t.failure.Swap(&failure) == nil {
			t.log.Warn("mirror source does not answer, and is asked again", "err", err)
		}
		if err := t.pause(ctx, max(pauses.NextBackOff(), pause), nil); err != nil {
			return err
		}
	}
}

// permanent reports whether err stays until something changes, at the source or
// here.
func permanent(err error) bool {
	return errors.As(err, new(emptySourceError)) || retry.Permanent(err) || unusable(err)
}

// retryState holds the back-off of a run that failed temporarily. It is in
// memory only; after a restart the run is retried at once.
type retryState struct {
	pauses    *retry.Backoff
	notBefore time.Time
}

// retryLater puts off the next try of a rule's run, longer each time, and at
// least for as long as the source asked.
func (s *Service) retryLater(rule string, asked time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.retries[rule]
	if r == nil {
		r = &retryState{pauses: retry.NewBackoff(firstRetryPause, maxRetryPause, 2)}
		s.retries[rule] = r
	}
	r.notBefore = s.Now().Add(max(r.pauses.NextBackOff(), asked))
}

// clearRetry forgets that a rule's run failed.
func (s *Service) clearRetry(rule string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.retries, rule)
}
