package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Limits on failed logins. A person who mistypes a few times and a cluster with an old password are
// still served, and guessing is not worthwhile.
const (
	failuresAllowed = 10              // at once, of one name from one sender
	senderAllowed   = 100             // at once, of one sender with any names
	senderAtOnce    = 10              // pending logins of one sender
	failureDecay    = 6 * time.Second // the time in which one failure is forgotten
	maxLimited      = 16 << 10        // names and senders with failures
)

// A Limiter limits the guessing of passwords. A login counts as a failure from its start until its
// password is verified, so that concurrent guesses count, too. Failures count by sender, and by
// sender and name together, but never by name alone: otherwise a stranger could lock out a name.
type Limiter struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[limitKey]*failures
}

type limitKey struct{ sender, name string }

// failures are the remaining failures of a sender, or of a name from it.
type failures struct {
	count   float64 // including the pending logins
	at      time.Time
	pending int // logins whose check has not ended
}

// NewLimiter returns a limiter without failures.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, failed: map[limitKey]*failures{}}
}

// Begin counts a login of name from sender. If wait is 0, the login may be checked now, and the
// caller must call end once: right reports that the login did not fail. Otherwise the login is not
// counted, and may be tried again after wait.
func (l *Limiter) Begin(sender, name string) (end func(right bool), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sender = network(sender)
	bySender, byName := l.at(limitKey{sender, ""}), l.at(limitKey{sender, name})
	wait = max(bySender.wait(senderAllowed), byName.wait(failuresAllowed))
	if wait == 0 && bySender.pending >= senderAtOnce {
		wait = time.Second
	}
	if wait > 0 {
		return nil, wait
	}
	for _, f := range []*failures{bySender, byName} {
		f.count++
		f.pending++
	}
	return func(right bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range []*failures{bySender, byName} {
			f.pending--
			if right {
				f.count = max(0, f.count-1)
			}
		}
	}, 0
}

// Add counts n failures of a sender that happened elsewhere.
func (l *Limiter) Add(sender string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(limitKey{network(sender), ""}).count += float64(n)
}

// at returns the current failures of a key.
func (l *Limiter) at(key limitKey) *failures {
	f := l.failed[key]
	if f == nil {
		if len(l.failed) >= maxLimited {
			l.evict()
		}
		f = &failures{}
		l.failed[key] = f
	}
	f.decay(l.now())
	return f
}

// decay forgets failures for the time that has passed. If the clock was set back, it forgets none.
func (f *failures) decay(now time.Time) {
	if d := now.Sub(f.at); d > 0 {
		f.count = max(0, f.count-d.Seconds()/failureDecay.Seconds())
	}
	f.at = now
}

// wait returns how long it takes until one more failure is allowed.
func (f *failures) wait(allowed int) time.Duration {
	return time.Duration(max(0, f.count+1-float64(allowed)) * float64(failureDecay))
}

// evict makes room: it deletes the keys without failures or, if there are none, everything.
func (l *Limiter) evict() {
	now := l.now()
	for key, f := range l.failed {
		if f.decay(now); f.count == 0 && f.pending == 0 {
			delete(l.failed, key)
		}
	}
	if len(l.failed) >= maxLimited {
		clear(l.failed)
	}
}

// network is like [SenderOf] for the text of an address. Any other text is returned unchanged.
func network(sender string) string {
	a, err := netip.ParseAddr(sender)
	if err != nil {
		return sender
	}
	return SenderOf(a).String()
}

// SenderOf returns the key by which limits count the sender at an address: an IPv4 address, or the
// first address of an IPv6 network of 64 bits, because one sender can use all of them. A loopback
// address is its own key.
func SenderOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() && !a.IsLoopback() {
		return p.Addr()
	}
	return a
}
