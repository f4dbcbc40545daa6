package mirror

import (
	"time"

	"ferry/internal/retry"
)

// The pauses between runs of a rule whose source fails for a while.
const (
	firstRetryPause = time.Minute
	maxRetryPause   = 30 * time.Minute
)

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

// retryIn returns how long a turn of the rule has to wait. A tick, or a wish,
// that came since the last try does not.
func (s *Service) retryIn(rule string, t turn, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.retries[rule]; r != nil && t.again {
		return r.notBefore.Sub(now)
	}
	return 0
}
