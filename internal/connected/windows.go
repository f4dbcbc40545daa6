package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/retry"
	"ferry/internal/schedule"
)

// clockCheck is how often the clock is looked at while a window is awaited, or
// open: a clock that was set meanwhile, such as that of a machine without a
// battery once it finds the time, then counts soon.
const clockCheck = time.Minute

// errWindowClosed is the cause with which a sync ends whose time is over.
var errWindowClosed = errors.New("the sync window closed")

// errRestartSession is the cause with which a session ends because an operator
// wants a new one. No sync runs then.
var errRestartSession = errors.New("somebody asked for a sync")

// windows are when syncs may run: with the schedule's ticks; from the activation
// on, so that a new connected registry does not wait for its first tick; and
// from when somebody asked.
type windows struct {
	schedule.Window
	extra []time.Time // when windows opened that no tick opened
}

// windows returns what the parent decided last. A schedule that this
// program cannot read, which a newer parent may know, counts as continuous:
// content that comes too early does less harm than content that never comes.
func (a *Agent) windows() windows {
	s := a.current()
	w, err := schedule.Parse(s.Self.Schedule, s.Self.SyncWindow)
	if err != nil {
		w, _ = schedule.Parse(schedule.Continuous, "")
	}
	return windows{w, []time.Time{s.ActivatedAt, s.AskedAt}}
}

// Open reports whether a window is open at t, and until when; zero is never.
func (w windows) Open(t time.Time) (open bool, until time.Time) {
	open, until = w.Window.Open(t)
	if w.Continuous() {
		return open, until
	}
	if !open {
		until = t
	}
	for _, opened := range w.extra {
		if closes := opened.Add(w.Length); !t.Before(opened) && closes.After(until) {
			open, until = true, closes
		}
	}
	return open, until
}

// extraEnd returns when the window closes that is open at t and that no tick opened; zero if
// there is none, or the schedule keeps a window open for longer.
func (w windows) extraEnd(t time.Time) time.Time {
	_, scheduled := w.Window.Open(t)
	if open, until := w.Open(t); open && until.After(scheduled) {
		return until
	}
	return time.Time{}
}

// awaitWindow returns true once a window is open, and false when ctx ends.
func (a *Agent) awaitWindow(ctx context.Context) bool {
	for logged := false; ; logged = true {
		wakeup := a.awaitWakeup()
		w, now := a.windows(), a.now()
		if open, _ := w.Open(now); open {
			return ctx.Err() == nil
		}
		next := w.Next(now)
		if !logged {
			a.log.Info("sync window is closed", "next", next)
		}
		if sleepUntil(ctx, now, next, wakeup) != nil {
			return false
		}
	}
}

// closeWindow cancels with [errWindowClosed] when the window closes, and with
// [errRestartSession] when somebody wants something, which closes wakeup, and no
// sync runs. It returns then, or when ctx ends.
func (a *Agent) closeWindow(ctx context.Context, cancel context.CancelCauseFunc, wakeup <-chan struct{}) {
	for {
		now := a.now()
		open, until := a.windows().Open(now)
		if !open {
			cancel(errWindowClosed)
			return
		}
		if sleepUntil(ctx, now, until, wakeup) != nil {
			return
		}
		select {
		case <-wakeup:
		default:
			continue
		}
		if !a.syncRuns() {
			cancel(errRestartSession)
			return
		}
		wakeup = a.awaitWakeup()
	}
}

// sleepUntil is [retry.Sleep] from now until t, which may be zero for never, but
// for [clockCheck] at most.
func sleepUntil(ctx context.Context, now, t time.Time, wakeup <-chan struct{}) error {
	pause := clockCheck
	if !t.IsZero() {
		pause = min(pause, t.Sub(now))
	}
	return retry.Sleep(ctx, pause, wakeup)
}
