package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestALimiterForgetsWithTime(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter(func() time.Time { return now })
	for range failuresAllowed {
		l.Failed("source", "name")
	}
	if wait := l.Wait("source", "name"); wait != failureRefill {
		t.Errorf("wait %v", wait)
	}
	if wait := l.Wait("source", "other") + l.Wait("elsewhere", "name"); wait != 0 {
		t.Errorf("others wait %v", wait)
	}
	now = now.Add(failureRefill)
	if wait := l.Wait("source", "name"); wait != 0 {
		t.Errorf("after the wait: %v", wait)
	}
	now = now.Add(-time.Hour)
	if wait := l.Wait("source", "name"); wait != 0 {
		t.Errorf("with a clock that was set back: %v", wait)
	}
	now = now.Add(2 * time.Hour)
	for range failuresAllowed {
		l.Failed("source", "name")
	}
	now = now.Add(-time.Hour)
	if wait := l.Wait("source", "name"); wait != failureRefill {
		t.Errorf("after failures and with a clock that was set back: %v", wait)
	}
	now = now.Add(failureRefill)
	if wait := l.Wait("source", "name"); wait != 0 {
		t.Errorf("after that wait: %v", wait)
	}
}

func TestFailuresAtTheSameTimeLengthenTheWait(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter(func() time.Time { return now })
	for range 2 * failuresAllowed {
		l.Failed("source", "name")
	}
	now = now.Add(failuresAllowed * failureRefill)
	if wait := l.Wait("source", "name"); wait != failureRefill {
		t.Errorf("wait %v", wait)
	}
	now = now.Add(failureRefill)
	if wait := l.Wait("source", "name"); wait != 0 {
		t.Errorf("after the wait: %v", wait)
	}
}

func TestALimiterWatchesABoundedNumber(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter(func() time.Time { return now })
	for n := range 3 * maxLimited {
		l.Failed(fmt.Sprint(n), "name")
		if len(l.failed) > maxLimited+1 {
			t.Fatalf("%d are watched", len(l.failed))
		}
	}
}
