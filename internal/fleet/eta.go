package fleet

import (
	"time"

	"ferry/internal/api"
	"ferry/internal/schedule"
)

const (
	// maxForecast is how far a forecast looks ahead.
	maxForecast = 90 * 24 * time.Hour
	// maxForecastSteps bounds the work of a forecast. A step is a window, a period of the budget, or a
	// part of a day with another bandwidth.
	maxForecastSteps = 1000
	// maxRate is a rate in bytes per second that no link has. Sites report any number.
	maxRate = 1 << 36
)

// eta returns when a connected registry should have everything, and how many windows it needs: from
// its bytes to go, the rate of its syncs, its bandwidth, its windows and its byte budget. It returns
// nil if it does not move, or if one of these is not known. What it has not heard of arrives from the
// next window on, and counts in full.
func (v *Standing) eta(now time.Time) (at *time.Time, windows *int) {
	switch v.State {
	case api.CatchingUp, api.Waiting:
	default:
		return nil, nil
	}
	st := v.report.Status
	if v.Cause != "" || st.Paused || v.BytesPending == 0 && v.ItemsUnheard == 0 || v.mayBeMore() {
		return nil, nil
	}
	spec := v.registry.Settings
	f := forecast{window: windowOf(spec.Schedule, spec.SyncWindow), extra: st.WindowEnd, rate: v.report.Rate,
		left: st.BudgetLeft}
	f.bandwidth, _ = schedule.ParseBandwidth(spec.Bandwidth)
	f.budget, _ = schedule.ParseBudget(spec.ByteBudget)
	if v.BytesPerSecond > 0 {
		f.rate = v.BytesPerSecond
	}
	if hasDetail(st, budgetSpent) {
		f.left = new(int64)
	}
	end, n := f.end(now, v.BytesToGo())
	if end.IsZero() {
		return nil, nil
	}
	if !f.window.Continuous() {
		windows = &n
	}
	return api.Time(end), windows
}

// A forecast says when a number of bytes will have come.
type forecast struct {
	window    schedule.Window
	extra     time.Time // the end of a window that no tick opened
	bandwidth schedule.Bandwidth
	budget    schedule.Budget
	left      *int64 // of the budget in this period; nil is all of it
	rate      int64  // bytes per second; 0 is not known, so that only the bandwidth limits it
}

// end returns when bytes will have come, and how many windows that takes; zero if it is not known.
func (f forecast) end(now time.Time, bytes int64) (at time.Time, windows int) {
	left, period := f.budget.Bytes, time.Time{}
	if f.budget.Bytes > 0 {
		if _, period = f.budget.Period(now); f.left != nil {
			left = min(*f.left, left)
		}
	}
	t, until := now, time.Time{} // until is the end of the window that is open at t
	for range maxForecastSteps {
		if t.Sub(now) > maxForecast {
			break
		}
		if !t.Before(until) {
			var open bool
			if open, until = f.opening(t); !open {
				if t = f.window.Next(t); t.IsZero() {
					break
				}
				continue
			}
			windows++
		}
		stop := minTime(until, f.bandwidth.Until(t))
		if f.budget.Bytes > 0 {
			if !t.Before(period) {
				_, period = f.budget.Period(t)
				left = f.budget.Bytes
			}
			if stop = minTime(stop, period); left <= 0 {
				t = period
				continue
			}
		}
		if bytes == 0 {
			return t, windows
		}
		rate := f.rateAt(t)
		if rate <= 0 {
			break
		}
		room := rate * int64(stop.Sub(t)/time.Second)
		if f.budget.Bytes > 0 {
			room = min(room, left)
		}
		if bytes <= room {
			return t.Add(time.Duration(bytes/rate+1) * time.Second), windows
		}
		bytes, left = bytes-room, left-room
		if t = stop; f.budget.Bytes > 0 && left <= 0 {
			t = period
		}
	}
	return time.Time{}, 0
}

// opening reports whether a window is open at t, and until when.
func (f forecast) opening(t time.Time) (open bool, until time.Time) {
	if f.window.Continuous() {
		return true, t.Add(maxForecast)
	}
	open, until = f.window.Open(t)
	if f.extra.After(t) && (!open || f.extra.After(until)) {
		return true, f.extra
	}
	return open, until
}

// rateAt returns the rate at t: the measured one, within the bandwidth.
func (f forecast) rateAt(t time.Time) int64 {
	limit := min(f.bandwidth.At(t), maxRate)
	if f.rate == 0 || limit > 0 && limit < f.rate {
		return limit
	}
	return min(f.rate, maxRate)
}

// minTime returns the earlier of two times.
func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
