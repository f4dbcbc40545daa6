package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/retry"
	"ferry/internal/schedule"
)

// clockCheck is how often the clock is read while the agent waits for a window to
// open or close, so that the agent soon notices that the clock was set. A machine
// without a battery sets it some time after its start.
const clockCheck = time.Minute

// errWindowClosed is the cause with which a sync ends when its window closes.
var errWindowClosed = errors.New("the sync window closed")

// errRestartSession is the cause with which a session ends because an operator
// asked for a new one. No sync runs then.
var errRestartSession = errors.New("an operator asked for a sync")

// windows are the times when syncs may run. A window opens with each tick of the
// schedule, with the activation, so that a new connected registry need not wait
// for its first tick, and when an operator asks for a sync.
type windows struct {
	schedule.Window
	extra []time.Time // when a window opened without a tick
}

// windows returns the windows of the desired state. If this program cannot read
// the schedule, because a newer parent may know more forms, it counts as
// continuous: content that comes too early does less harm than none at all.
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

// extraEnd returns when the window that is open at t closes, if no tick opened
// it. It is zero if there is none, or if a window of the schedule is open for
// longer.
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

// closeWindow cancels with [errWindowClosed] when the window closes. It cancels
// with [errRestartSession] when wakeup is closed, unless a sync runs. It returns
// then, or when ctx ends.
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

// sleepUntil is [retry.Sleep] until t, but for [clockCheck] at most. A zero t is
// never.
func sleepUntil(ctx context.Context, now, t time.Time, wakeup <-chan struct{}) error {
	pause := clockCheck
	if !t.IsZero() {
		pause = min(pause, t.Sub(now))
	}
	return retry.Sleep(ctx, pause, wakeup)
}
