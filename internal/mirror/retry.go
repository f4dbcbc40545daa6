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

// The pauses between requests to a source that does not answer, and between runs of a
// rule that fail temporarily.
const (
	firstPause      = time.Second
	maxPause        = time.Minute
	firstRetryPause = time.Minute
	maxRetryPause   = 30 * time.Minute
)

// A task is the common part of a run and an import: requests to the source with retries,
// and an engine that fetches content.
type task struct {
	*Service
	log     *slog.Logger
	engine  *replication.Engine
	slots   slots
	inSlot  bool                   // the task has one of slots
	failure atomic.Pointer[string] // why the current request is retried; nil while the source answers
}

// newTask returns a task with an engine. o has the engine's source and its settings. The
// task needs one of slots to work.
func (s *Service) newTask(log *slog.Logger, slots slots, o replication.Options) *task {
	o.Storage, o.DB, o.Log, o.Now = s.Storage, s.DB, s.Log, s.Now
	o.ChunkSize, o.Connections, o.Meter = s.ChunkSize, s.Connections, s.Meter
	return &task{Service: s, log: log, slots: slots, engine: replication.New(o)}
}

// problem returns the reason why the source sends nothing at the moment; "" if it does.
func (t *task) problem() string {
	if failure := t.failure.Load(); failure != nil {
		return *failure
	}
	return describe(t.engine.LinkError())
}

// ask calls try until it succeeds, fails permanently, or ctx ends. In the last case it
// returns the cause of ctx. After a temporary failure, more decides whether to retry. If
// the source asked for a pause, ask waits for at least that long.
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
			t.log.Warn("mirror source does not answer; retrying", "err", err)
		}
		if err := t.pause(ctx, max(pauses.NextBackOff(), pause), nil); err != nil {
			return err
		}
	}
}

// permanent reports whether err stays until something is changed, at the source or here.
func permanent(err error) bool {
	return errors.As(err, new(emptySourceError)) || retry.Permanent(err) || isMisconfigured(err)
}

// A retryState has the back-off of a run that failed temporarily. It is in memory only;
// after a restart, the run is retried immediately.
type retryState struct {
	pauses    *retry.Backoff
	notBefore time.Time
}

// retryLater schedules the next retry of a rule's run, with a longer pause each time. The
// pause is at least as long as the source asked for.
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

// clearRetry resets the back-off of a rule.
func (s *Service) clearRetry(rule string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.retries, rule)
}
