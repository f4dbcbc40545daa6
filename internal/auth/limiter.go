package auth

import (
	"sync"
	"time"
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
	failed map[limitKey]*failures
}

type limitKey struct{ source, name string }

// failures is a bucket that fills with failures and drains with time.
type failures struct {
	count float64
	at    time.Time
}

// NewLimiter returns a limiter without a memory of failures.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, failed: map[limitKey]*failures{}}
}

// Wait returns how long a login of name from source has to wait; 0 is not at all.
func (l *Limiter) Wait(source, name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.wait(limitKey{source, name}, failuresAllowed), l.wait(limitKey{source, ""}, sourceAllowed))
}

func (l *Limiter) wait(key limitKey, allowed float64) time.Duration {
	f := l.failed[key]
	if f == nil {
		return 0
	}
	l.drain(f)
	if f.count < allowed {
		return 0
	}
	return time.Duration((f.count - allowed + 1) * float64(failureRefill))
}

// Failed notes a failed login.
func (l *Limiter) Failed(source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range []limitKey{{source, name}, {source, ""}} {
		f := l.failed[key]
		if f == nil {
			if len(l.failed) >= maxLimited {
				l.forget()
			}
			f = &failures{at: l.now()}
			l.failed[key] = f
		}
		l.drain(f)
		f.count++
	}
}

func (l *Limiter) drain(f *failures) {
	now := l.now()
	passed := max(0, now.Sub(f.at)) // a clock that was set back forgives nothing, and accuses nobody
	f.count = max(0, f.count-float64(passed)/float64(failureRefill))
	f.at = now
}

// forget makes room: what has drained goes, and if nothing has, everything.
func (l *Limiter) forget() {
	for key, f := range l.failed {
		if l.drain(f); f.count == 0 {
			delete(l.failed, key)
		}
	}
	if len(l.failed) >= maxLimited {
		clear(l.failed)
	}
}
