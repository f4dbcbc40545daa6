package auth

import (
	"fmt"
	"testing"
	"time"
)

// fail makes n failed logins, or as many as the limiter allows, and returns their number.
func (l *Limiter) fail(sender, name string, n int) (failed int) {
	for range n {
		end, wait := l.Begin(sender, name)
		if wait > 0 {
			break
		}
		end(false)
		failed++
	}
	return failed
}

// wait returns how long a login must wait.
func (l *Limiter) wait(sender, name string) time.Duration {
	end, wait := l.Begin(sender, name)
	if wait == 0 {
		end(true)
	}
	return wait
}

func TestLimiterForgetsFailuresWithTime(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter(func() time.Time { return now })
	l.fail("sender", "name", failuresAllowed)
	if wait := l.wait("sender", "name"); wait != failureDecay {
		t.Errorf("wait %v", wait)
	}
	if wait := l.wait("sender", "other") + l.wait("elsewhere", "name"); wait != 0 {
		t.Errorf("others wait %v", wait)
	}
	now = now.Add(failureDecay)
	if wait := l.wait("sender", "name"); wait != 0 {
		t.Errorf("after the wait: %v", wait)
	}
	now = now.Add(-time.Hour)
	if wait := l.wait("sender", "name"); wait != 0 {
		t.Errorf("with a clock that was set back: %v", wait)
	}
	now = now.Add(2 * time.Hour)
	l.fail("sender", "name", failuresAllowed)
	now = now.Add(-time.Hour)
	if wait := l.wait("sender", "name"); wait != failureDecay {
		t.Errorf("after failures and with a clock that was set back: %v", wait)
	}
	now = now.Add(failureDecay)
	if wait := l.wait("sender", "name"); wait != 0 {
		t.Errorf("after that wait: %v", wait)
	}
}

func TestPendingLoginsCountAsFailures(t *testing.T) {
	l := NewLimiter(func() time.Time { return time.Unix(0, 0) })
	var ends []func(bool)
	for range 1000 {
		if end, wait := l.Begin("sender", "name"); wait == 0 {
			ends = append(ends, end)
		}
	}
	if len(ends) != failuresAllowed {
		t.Fatalf("%d guesses are checked at once", len(ends))
	}
	for _, end := range ends {
		end(true)
	}
	if failed := l.fail("sender", "name", 1000); failed != failuresAllowed {
		t.Errorf("%d failures are allowed after successful logins", failed)
	}
}

func TestPendingLoginsOfASenderAreBounded(t *testing.T) {
	l := NewLimiter(func() time.Time { return time.Unix(0, 0) })
	pending := 0
	for n := range 1000 {
		if _, wait := l.Begin("sender", fmt.Sprint(n)); wait == 0 {
			pending++
		}
	}
	if wait := l.wait("elsewhere", "name"); pending != senderAtOnce || wait != 0 {
		t.Errorf("%d are checked at once, and another sender waits %v", pending, wait)
	}
}

func TestIPv6NetworkIsOneSender(t *testing.T) {
	l := NewLimiter(func() time.Time { return time.Unix(0, 0) })
	l.fail("2001:db8::1", "name", failuresAllowed)
	if l.wait("2001:db8::ffff:2", "name") == 0 || l.wait("2001:db8:0:1::1", "name") > 0 {
		t.Error("IPv6 senders do not count by their network")
	}
	l.fail("::ffff:192.0.2.1", "name", failuresAllowed)
	if l.wait("::ffff:192.0.2.2", "name") > 0 {
		t.Error("two IPv4 addresses count as one sender")
	}
}

func TestLimiterSizeIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter(func() time.Time { return now })
	for n := range 3 * maxLimited {
		l.fail(fmt.Sprint(n), "name", 1)
		if len(l.failed) > maxLimited+1 {
			t.Fatalf("%d keys are kept", len(l.failed))
		}
	}
}
