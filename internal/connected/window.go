package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/retry"
	"ferry/internal/schedule"
)

// glance is how often the clock is looked at while a window is awaited, or
// open: a clock that was set meanwhile, as a machine's without a battery is
// once it finds the time, then counts soon.
const glance = time.Minute

// errWindowClosed is the cause with which a sync ends whose time is over.
var errWindowClosed = errors.New("the sync window closed")

// errAsked is the cause with which a visit ends that somebody at the site
// wants to begin anew. No sync runs then.
var errAsked = errors.New("somebody asked for a visit")

// A clockwork says when syncs may run: with the schedule's ticks and, beside
// them, from the activation on, so that a new site does not wait for its
// first tick, and from when somebody asked.
type clockwork struct {
	window schedule.Window
	beside []time.Time // when windows opened that no tick opened
}

// clockwork returns what the parent decided last. A schedule that this
// program cannot read, which a newer parent may know, counts as continuous:
// content that comes too early does less harm than content that never comes.
func (a *Agent) clockwork() clockwork {
	m := a.recalled()
	w, err := schedule.Parse(m.Self.Schedule, m.Self.SyncWindow)
	if err != nil {
		w, _ = schedule.Parse(schedule.Continuous, "")
	}
	return clockwork{w, []time.Time{m.ActivatedAt, m.AskedAt}}
}

// open reports whether a window is open at t.
func (c clockwork) open(t time.Time) bool {
	open, _ := c.window.Open(t)
	return open || !c.until(t).IsZero()
}

// until is when the last of the windows beside the schedule closes that are
// open at t; zero is that none is.
func (c clockwork) until(t time.Time) (end time.Time) {
	for _, opened := range c.beside {
		closes := opened.Add(c.window.Length)
		if !t.Before(opened) && t.Before(closes) && closes.After(end) {
			end = closes
		}
	}
	return end
}

// next returns when a window opens after t; zero is never.
func (c clockwork) next(t time.Time) time.Time { return c.window.Next(t) }

// awaitWindow returns true once a window is open, and false when ctx ends.
func (a *Agent) awaitWindow(ctx context.Context) bool {
	said := false
	for {
		woken := a.wakes()
		c, now := a.clockwork(), a.now()
		if c.open(now) {
			return ctx.Err() == nil
		}
		next := c.next(now)
		if !said {
			said = true
			a.log.Info("sync window is closed", "next", next)
		}
		pause := glance
		if until := next.Sub(now); !next.IsZero() && until < pause {
			pause = until
		}
		if retry.Sleep(ctx, pause, woken) != nil {
			return false
		}
	}
}

// closeWindow cancels with [errWindowClosed] when the window closes, and with
// [errAsked] when somebody wants another visit, which closes woken, and no
// sync runs. It returns then, or when ctx ends.
func (a *Agent) closeWindow(ctx context.Context, cancel context.CancelCauseFunc, woken <-chan struct{}) {
	for {
		c, now := a.clockwork(), a.now()
		if !c.open(now) {
			cancel(errWindowClosed)
			return
		}
		if retry.Sleep(ctx, c.left(now), woken) != nil {
			return
		}
		select {
		case <-woken:
		default:
			continue
		}
		if !a.syncs() {
			cancel(errAsked)
			return
		}
		woken = a.wakes()
	}
}

// left is how long to sleep, with a window open at t, until it can be closed.
func (c clockwork) left(t time.Time) time.Duration {
	left := glance
	open, until := c.window.Open(t)
	switch {
	case c.window.Continuous():
	case open:
		left = min(left, until.Sub(t))
	default:
		left = min(left, c.until(t).Sub(t))
	}
	return max(left, time.Millisecond)
}
