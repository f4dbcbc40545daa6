package mirror

import (
	"time"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// A clockwork says when a rule runs: with each tick of its schedule, and when
// somebody asks, as whoever writes a rule without a window does. With a window
// a run ends when that closes, and the next goes on from the same byte. Ticks
// and wishes during a run make one more run after it. A run that failed for a
// while, or was broken off, is owed until its window closes or another tick
// comes; so is one whose tick passed while the machine was off.
type clockwork struct{ schedule.Window }

// newClockwork returns the clockwork of a rule; its Length is 0 where no
// window closes.
func newClockwork(s Spec) (c clockwork, err error) {
	if c.Cron, err = schedule.ParseCron(s.Schedule); err == nil && s.Window != "" {
		c.Length, err = schedule.ParseWindow(s.Window)
	}
	return c, err
}

// A turn is a run that a rule is to have.
type turn struct {
	opened time.Time // from when
	until  time.Time // zero is as long as it takes
	again  bool      // it began before, and is owed still
}

// turn returns the run that the rule is to have at now, if there is one.
func (c clockwork) turn(r metadb.MirrorRule, now time.Time) (t turn, due bool) {
	t = turn{opened: r.OwedAt, again: !r.OwedAt.IsZero()}
	for _, at := range []time.Time{r.AskedAt, c.tick(r, now)} {
		if at.After(r.StartedAt) && !at.After(now) && at.After(t.opened) {
			t = turn{opened: at}
		}
	}
	if t.opened.IsZero() {
		return turn{}, false
	}
	if c.Length > 0 {
		t.until = t.opened.Add(c.Length)
	}
	return t, t.open(now)
}

// open reports whether the turn's window is open at now.
func (t turn) open(now time.Time) bool { return t.until.IsZero() || now.Before(t.until) }

// tick is the last tick that the rule heard; zero is none.
func (c clockwork) tick(r metadb.MirrorRule, now time.Time) time.Time {
	if tick := c.Cron.Prev(now); tick.After(r.CreatedAt) {
		return tick
	}
	return time.Time{}
}

// next is when the rule runs next, where one that is owed does not before
// notBefore. It is now where the rule only waits for others.
func (c clockwork) next(r metadb.MirrorRule, notBefore, now time.Time) time.Time {
	tick := c.Next(now)
	t, due := c.turn(r, now)
	if !due {
		return tick
	}
	at := now
	if t.again && notBefore.After(now) {
		at = notBefore
	}
	if !t.open(at) || !tick.IsZero() && tick.Before(at) {
		return tick
	}
	return at
}
