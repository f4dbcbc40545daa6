package connected

import (
	"context"
	"errors"
)

// errPaused is the cause with which a paused sync ends.
var errPaused = errors.New("syncs are paused")

// SyncNow makes the agent poll its parent at once, whatever the schedule says: a
// window opens now. Blobs in quarantine are fetched again. A running sync goes
// on, and paused syncs stay paused.
func (a *Agent) SyncNow(ctx context.Context) {
	a.log.Info("a sync was asked for")
	a.engine.ClearQuarantine()
	a.update(ctx, func(s *state) { s.AskedAt = a.now() })
	a.wake()
}

// TryNow makes the agent try its parent at once if the last try failed, because the
// connection string changed. It opens no window, and a running sync goes on.
func (a *Agent) TryNow() { a.wake() }

// Pause stops the running sync, which keeps every byte that it has. No other sync
// begins until [Agent.Resume], even after a restart. Polls go on, and report
// that syncs are paused.
func (a *Agent) Pause(ctx context.Context) {
	a.log.Info("syncs are paused")
	a.update(ctx, func(s *state) {
		s.Paused = true
		for _, stop := range []context.CancelCauseFunc{a.stopSync, a.stopSend} {
			if stop != nil {
				stop(errPaused)
			}
		}
	})
	a.wake()
}

// Resume allows syncs to run again, as their schedule says. They go on from the
// same byte.
func (a *Agent) Resume(ctx context.Context) {
	a.log.Info("syncs are resumed")
	a.update(ctx, func(s *state) { s.Paused = false })
	a.wake()
}

// awaitWakeup returns a channel that is closed when an operator next asks for
// something.
func (a *Agent) awaitWakeup() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wakeup
}

func (a *Agent) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.wakeup)
	a.wakeup = make(chan struct{})
}

// beginSync registers a sync, which stop ends, and sets its order. It returns
// ok false if syncs are paused, or if the byte budget is spent and no repository
// is urgent. A sync with urgentOnly fetches only urgent repositories.
func (a *Agent) beginSync(stop context.CancelCauseFunc) (urgentOnly, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	urgentOnly, _ = a.state.budgetSpent(a.now())
	if a.state.Paused || urgentOnly && !a.state.priorities().AnyUrgent() {
		return false, false
	}
	a.stopSync, a.urgentOnly = stop, urgentOnly
	a.engine.SetOrder(a.state.order(urgentOnly))
	return urgentOnly, true
}

// endSync ends what [Agent.beginSync] began, and returns whether the sync
// fetched only urgent repositories.
func (a *Agent) endSync() (urgentOnly bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopSync(nil)
	urgentOnly = a.urgentOnly
	a.stopSync, a.urgentOnly = nil, false
	return urgentOnly
}

// reprioritise sets the current order of the running sync, if there is one.
func (a *Agent) reprioritise() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopSync != nil {
		a.engine.SetOrder(a.state.order(a.urgentOnly))
	}
}

// syncRuns returns true while a sync runs.
func (a *Agent) syncRuns() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopSync != nil
}
