package schedule

import (
	"fmt"
	"time"
)

// A Window is when a sync may run. It opens with each tick of its cron
// expression and stays open for Length; a tick inside an open window makes it
// last from that tick on, so a Length that is longer than the interval is
// always open. A tick that passed while nobody looked counts for as long as
// its window would still be open. With a continuous expression the window is
// always open and Length means nothing.
type Window struct {
	Cron   Cron
	Length time.Duration
}

// Parse reads a schedule and, unless that is continuous, its window.
func Parse(cron, window string) (Window, error) {
	c, err := ParseCron(cron)
	if err != nil {
		return Window{}, err
	}
	w := Window{Cron: c}
	if c.Continuous() {
		return w, nil
	}
	if window == "" {
		return Window{}, fmt.Errorf("a sync window is required with the schedule %q (example: PT1H)", cron)
	}
	w.Length, err = ParseWindow(window)
	return w, err
}

// Continuous reports whether the window is always open.
func (w Window) Continuous() bool { return w.Cron.Continuous() }

// Open reports whether the window is open at t, and until when, as far as the
// ticks up to t tell. Of a continuous window the end is zero: never.
func (w Window) Open(t time.Time) (open bool, until time.Time) {
	if w.Continuous() {
		return true, time.Time{}
	}
	tick := w.Cron.Prev(t)
	if tick.IsZero() {
		return false, time.Time{}
	}
	until = tick.Add(w.Length)
	return t.Before(until), until
}

// Next returns when the window opens after t; zero is never.
func (w Window) Next(t time.Time) time.Time { return w.Cron.Next(t) }
