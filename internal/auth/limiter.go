package auth

import (
	"net/netip"
	"sync"
	"time"
)

// The failed logins that are let pass: a person who mistypes a few times and
// a cluster with an old password are served; guessing is not worth while.
const (
	failuresAllowed = 10              // in a row, of one name from one source
	sourceAllowed   = 100             // in a row, of one source whatever the name
	sourceAtOnce    = 10              // logins of one source that are being checked
	failureRefill   = 6 * time.Second // until one of them is forgiven
	maxLimited      = 16 << 10        // names and sources that are watched
)

// A Limiter slows down the guessing of passwords. A login counts as failed from before
// it is checked until it is found to be right, so that guesses that are made at the
// same time count, too. It counts by source and by source and name together, never
// by name alone, because a stranger could then lock out a name by failing with it.
type Limiter struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[limitKey]*failures
}

type limitKey struct{ source, name string }

// failures are what is not forgiven of a source, or of a name from it.
type failures struct {
	count   float64 // logins that are being checked among them
	at      time.Time
	pending int // logins that are being checked
}

// NewLimiter returns a limiter without a memory of failures.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, failed: map[limitKey]*failures{}}
}

// Begin counts a login of name from source, which may be checked now if wait is 0,
// and then must be ended, once: right says that it did not fail. Otherwise the login
// has to wait for so long, and is not counted.
func (l *Limiter) Begin(source, name string) (end func(right bool), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	source = network(source)
	bySource, byName := l.at(limitKey{source, ""}), l.at(limitKey{source, name})
	wait = max(bySource.wait(sourceAllowed), byName.wait(failuresAllowed))
	if wait == 0 && bySource.pending >= sourceAtOnce {
		wait = time.Second
	}
	if wait > 0 {
		return nil, wait
	}
	for _, f := range []*failures{bySource, byName} {
		f.count++
		f.pending++
	}
	return func(right bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range []*failures{bySource, byName} {
			f.pending--
			if right {
				f.count = max(0, f.count-1)
			}
		}
	}, 0
}

// at returns the failures of a key as they are now.
func (l *Limiter) at(key limitKey) *failures {
	f := l.failed[key]
	if f == nil {
		if len(l.failed) >= maxLimited {
			l.forget()
		}
		f = &failures{}
		l.failed[key] = f
	}
	f.forgive(l.now())
	return f
}

// forgive counts the time that has passed. A clock that was set back forgives and
// accuses nobody.
func (f *failures) forgive(now time.Time) {
	if d := now.Sub(f.at); d > 0 {
		f.count = max(0, f.count-d.Seconds()/failureRefill.Seconds())
	}
	f.at = now
}

// wait is how long it takes until there is room for one more.
func (f *failures) wait(allowed int) time.Duration {
	return time.Duration(max(0, f.count+1-float64(allowed)) * float64(failureRefill))
}

// forget makes room: what is forgiven is dropped, and if nothing is, everything.
func (l *Limiter) forget() {
	now := l.now()
	for key, f := range l.failed {
		if f.forgive(now); f.count == 0 && f.pending == 0 {
			delete(l.failed, key)
		}
	}
	if len(l.failed) >= maxLimited {
		clear(l.failed)
	}
}

// network is [SenderOf] for the text of an address. Any other text stands for itself.
func network(source string) string {
	a, err := netip.ParseAddr(source)
	if err != nil {
		return source
	}
	return SenderOf(a).String()
}

// SenderOf returns what limits count the sender at an address by: an IPv4 address, or the
// first address of an IPv6 network of 64 bits, because one sender can choose from all of it.
// A loopback address stands for itself.
func SenderOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() && !a.IsLoopback() {
		return p.Addr()
	}
	return a
}
