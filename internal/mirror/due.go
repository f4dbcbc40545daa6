package mirror

import (
	"time"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// A ruleSchedule says when a rule runs: at each tick of its cron expression, and on
// request. Writing a rule without a window is a request. If a rule has a window, its run
// ends when the window closes, and the next run resumes from the same byte. Ticks and
// requests during a run cause one more run after it.
//
// A run that failed temporarily or was interrupted is retried until its window closes or
// the next tick. A tick that passed while the machine was off also causes a run.
type ruleSchedule struct{ schedule.Window }

// scheduleOf returns the schedule of a rule. Its Length is 0 if the rule has no window.
func scheduleOf(v Spec) (s ruleSchedule, err error) {
	if s.Cron, err = schedule.ParseCron(v.Schedule); err == nil && v.Window != "" {
		s.Length, err = schedule.ParseWindow(v.Window)
	}
	return s, err
}

// A dueRun is a run of a rule that is due.
type dueRun struct {
	since time.Time
	until time.Time // when its window closes; zero is never
	retry bool      // it has already begun once
}

// due returns the run of the rule that is due at now; ok is false if there is none.
func (s ruleSchedule) due(r metadb.MirrorRule, now time.Time) (d dueRun, ok bool) {
	d = dueRun{since: r.RetrySince, retry: !r.RetrySince.IsZero()}
	tick := s.Cron.Prev(now)
	if !tick.After(r.CreatedAt) {
		tick = time.Time{}
	}
	for _, at := range []time.Time{r.RequestedAt, tick} {
		if at.After(r.StartedAt) && !at.After(now) && at.After(d.since) {
			d = dueRun{since: at}
		}
	}
	if d.since.IsZero() {
		return dueRun{}, false
	}
	if s.Length > 0 {
		d.until = d.since.Add(s.Length)
	}
	return d, d.open(now)
}

// open reports whether the run's window is open at now.
func (d dueRun) open(now time.Time) bool { return d.until.IsZero() || now.Before(d.until) }

// NextRun returns when the rule runs next; zero is never. It returns now if the rule
// only waits for other rules.
func (st RunStatus) NextRun(r metadb.MirrorRule, v Spec, now time.Time) time.Time {
	s, err := scheduleOf(v)
	if err != nil {
		return time.Time{}
	}
	if st.Running {
		r.RetrySince = time.Time{} // that run is the one in progress
	}
	tick := s.Next(now)
	d, due := s.due(r, now)
	if !due {
		return tick
	}
	at := now
	if d.retry && st.NotBefore.After(now) {
		at = st.NotBefore
	}
	if !d.open(at) || !tick.IsZero() && tick.Before(at) {
		return tick
	}
	return at
}
