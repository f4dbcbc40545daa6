package mirror

import (
	"time"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// A clockwork says when a rule runs: with each tick of its schedule; when
// somebody asks; and, where it has no window, as soon as it is made. With a
// window a run ends when that closes, and the next goes on from the same
// byte. Ticks during a run make one more run after it. A tick that passed, or
// a run that was broken off, while the machine was off counts, unless its
// window is over.
type clockwork struct{ schedule.Window }

// newClockwork returns the clockwork of a rule; its Length is 0 where no
// window closes.
func newClockwork(s Spec) (c clockwork, err error) {
	if c.Cron, err = schedule.ParseCron(s.Schedule); err == nil && s.Window != "" {
		c.Length, err = schedule.ParseWindow(s.Window)
	}
	return c, err
}

// due reports whether the rule is to run at now, and until when; zero is as
// long as it takes.
func (c clockwork) due(r metadb.MirrorRule, now time.Time) (due bool, until time.Time) {
	switch opened := c.opened(r, now); {
	case opened.IsZero():
		return false, time.Time{}
	case c.Length == 0:
		return true, time.Time{}
	default:
		until = opened.Add(c.Length)
		return now.Before(until), until
	}
}

// opened is the last moment before now from which the rule was to run and has
// not; zero is none.
func (c clockwork) opened(r metadb.MirrorRule, now time.Time) (at time.Time) {
	if r.EndedAt.Before(r.StartedAt) {
		at = r.StartedAt // which is broken off, unless it goes on
	}
	fresh := func(t time.Time) bool { return t.After(r.StartedAt) && !t.After(now) && t.After(at) }
	if fresh(r.AskedAt) {
		at = r.AskedAt
	}
	if r.StartedAt.IsZero() && c.Length == 0 && fresh(r.CreatedAt) {
		at = r.CreatedAt
	}
	if tick := c.Cron.Prev(now); fresh(tick) && tick.After(r.CreatedAt) {
		at = tick
	}
	return at
}
