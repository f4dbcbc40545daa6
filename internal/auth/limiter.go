package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The failed logins that are let pass: a person who mistypes a few times and
// a cluster with an old password are served; guessing is not worth while.
const (
	failuresAllowed = 10              // in a row, of one name from one source
	sourceAllowed   = 100             // in a row, of one source whatever the name
	failureRefill   = 6 * time.Second // until one of them is forgiven
	maxLimited      = 16 << 10        // names and sources that are watched
)

// A Limiter slows down who guesses passwords. It counts failures by source
// and by source and name together, never by name alone: or a stranger could
// lock out a name by failing with it.
type Limiter struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[limitKey]*rate.Limiter
}

type limitKey struct{ source, name string }

// NewLimiter returns a limiter without a memory of failures.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, failed: map[limitKey]*rate.Limiter{}}
}

// Wait returns how long a login of name from source has to wait; 0 is not at all.
func (l *Limiter) Wait(source, name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.wait(limitKey{source, name}), l.wait(limitKey{source, ""}))
}

func (l *Limiter) wait(key limitKey) time.Duration {
	f := l.failed[key]
	if f == nil {
		return 0
	}
	f.ReserveN(l.now(), 0) // notes a clock that was set back, which forgives and accuses nobody
	missing := max(0, 1-f.TokensAt(l.now()))
	return time.Duration(missing * float64(failureRefill))
}

// Failed notes a failed login. Those that were let in at the same time count
// beyond what is allowed, and lengthen the wait.
func (l *Limiter) Failed(source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, allowed := range map[limitKey]int{{source, name}: failuresAllowed, {source, ""}: sourceAllowed} {
		if l.failed[key] == nil {
			if len(l.failed) >= maxLimited {
				l.forget()
			}
			l.failed[key] = rate.NewLimiter(rate.Every(failureRefill), allowed)
		}
		l.failed[key].ReserveN(l.now(), 1)
	}
}

// forget makes room: what is forgiven goes, and if nothing is, everything.
func (l *Limiter) forget() {
	for key, f := range l.failed {
		if f.TokensAt(l.now()) >= float64(f.Burst()) {
			delete(l.failed, key)
		}
	}
	if len(l.failed) >= maxLimited {
		clear(l.failed)
	}
}
