package connected

import (
	"context"
	"errors"
)

// errPaused is the cause with which a sync ends that somebody paused.
var errPaused = errors.New("syncs are paused")

// SyncNow makes the agent poll its parent at once, whatever its schedule
// says: a window opens now, and what had wrong content is fetched again. It
// does nothing to a sync that runs, and nothing moves while syncs are paused.
func (a *Agent) SyncNow(ctx context.Context) {
	a.log.Info("a sync was asked for")
	a.engine.ClearQuarantine()
	a.update(ctx, func(s *state) { s.AskedAt = a.now() })
	a.wake()
}

// Pause stops the running sync, which keeps every byte that it has, and lets
// none begin until [Agent.Resume], also after a restart. The parent goes on
// being asked what changed, and told that syncs are paused.
func (a *Agent) Pause(ctx context.Context) {
	a.log.Info("syncs are paused")
	a.update(ctx, func(s *state) {
		s.Paused = true
		if a.stopSync != nil {
			a.stopSync(errPaused)
		}
	})
	a.wake()
}

// Resume lets syncs run again, from the same byte, as their schedule says.
func (a *Agent) Resume(ctx context.Context) {
	a.log.Info("syncs are resumed")
	a.update(ctx, func(s *state) { s.Paused = false })
	a.wake()
}

// awaitWakeup returns a channel that is closed when somebody next wants something.
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

// syncBegins registers a sync that stop ends, and gives it its order. It returns
// false if syncs are paused, or if the byte budget is spent and nothing is
// urgent. A sync that is urgentOnly fetches nothing else.
func (a *Agent) syncBegins(stop context.CancelCauseFunc) (urgentOnly, ok bool) {
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

// syncEnded takes back [Agent.syncBegins], and reports whether the sync fetched
// only what is urgent.
func (a *Agent) syncEnded() (urgentOnly bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopSync(nil)
	urgentOnly = a.urgentOnly
	a.stopSync, a.urgentOnly = nil, false
	return urgentOnly
}

// reprioritise gives the running sync, if there is one, the order that counts now.
func (a *Agent) reprioritise() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopSync != nil {
		a.engine.SetOrder(a.state.order(a.urgentOnly))
	}
}

// syncRuns reports whether a sync runs.
func (a *Agent) syncRuns() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopSync != nil
}
