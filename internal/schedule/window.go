package schedule

import (
	"fmt"
	"time"
)

// A Window says when a sync may run. It opens with each tick of its cron expression and stays
// open for Length. A tick in an open window extends it, so if Length is longer than the
// interval, the window is always open. Ticks count even if the program did not run then. With
// a continuous expression, the window is always open and Length is ignored.
type Window struct {
	Cron   Cron
	Length time.Duration
}

// Parse reads a cron expression and, unless that is continuous, the length of its window.
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

// Open reports whether the window is open at t, and until when if no further tick extends it.
// For a continuous window, until is zero.
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

// Next returns the first tick after t; zero if there is none.
func (w Window) Next(t time.Time) time.Time { return w.Cron.Next(t) }
