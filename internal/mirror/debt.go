package mirror

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pauses between runs of a rule whose source fails for a while.
const (
	firstDebtPause = time.Minute
	maxDebtPause   = 30 * time.Minute
)

// A debt is a run that a rule is owed: it failed in a way that may pass. It is
// forgotten with the process, and then paid at once.
type debt struct {
	pauses    *backoff.ExponentialBackOff
	notBefore time.Time
}

// owe puts off the next try of a rule's run, longer each time, and at least for
// as long as the source asked.
func (s *Service) owe(rule string, asked time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.debts[rule]
	if d == nil {
		d = &debt{pauses: backoff.NewExponentialBackOff()}
		d.pauses.InitialInterval, d.pauses.MaxInterval, d.pauses.Multiplier = firstDebtPause, maxDebtPause, 2
		d.pauses.Reset()
		s.debts[rule] = d
	}
	d.notBefore = s.Now().Add(max(d.pauses.NextBackOff(), asked))
}

// settle forgets what a rule is owed.
func (s *Service) settle(rule string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.debts, rule)
}

// wait returns how long a turn of the rule has to wait. A tick, or a wish, that
// came since the last try does not.
func (s *Service) wait(rule string, t turn, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.debts[rule]; d != nil && t.again {
		return d.notBefore.Sub(now)
	}
	return 0
}
