package connected

import (
	"context"
	"errors"
)

// errPaused is the cause with which a sync ends that somebody paused.
var errPaused = errors.New("syncs are paused")

// SyncNow makes the agent visit its parent at once, whatever its schedule
// says: a window opens now, and what had wrong content is fetched again. It
// does nothing to a sync that runs, and nothing moves while syncs are paused.
func (a *Agent) SyncNow(ctx context.Context) {
	a.log.Info("a sync was asked for")
	a.engine.ClearQuarantine()
	a.remember(ctx, func(m *memory) { m.AskedAt = a.now() })
	a.wake()
}

// Pause stops the running sync, which keeps every byte that it has, and lets
// none begin until [Agent.Resume], also after a restart. The parent goes on
// being asked what changed, and told that syncs are paused.
func (a *Agent) Pause(ctx context.Context) {
	a.log.Info("syncs are paused")
	a.remember(ctx, func(m *memory) { m.Paused = true })
	a.mu.Lock()
	stop := a.running
	a.mu.Unlock()
	if stop != nil {
		stop(errPaused)
	}
	a.wake()
}

// Resume lets syncs run again, from the same byte, as their schedule says.
func (a *Agent) Resume(ctx context.Context) {
	a.log.Info("syncs are resumed")
	a.remember(ctx, func(m *memory) { m.Paused = false })
	a.wake()
}

// wakes returns what is closed when somebody next wants something.
func (a *Agent) wakes() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.woken
}

func (a *Agent) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.woken)
	a.woken = make(chan struct{})
}

// begun notes a sync that stop ends, and gives it its order, unless syncs are
// paused, or the byte budget is spent and nothing is urgent: then it is not
// ok. A frugal sync fetches only what is urgent.
func (a *Agent) begun(stop context.CancelCauseFunc) (frugal, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	frugal, _ = a.memory.broke(a.now())
	if a.memory.Paused || frugal && !a.memory.urgency().AnyUrgent() {
		return false, false
	}
	a.running, a.frugal = stop, frugal
	a.engine.SetOrder(a.memory.order(frugal))
	return frugal, true
}

// reorder gives the running sync, if there is one, the order that counts now.
func (a *Agent) reorder() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running != nil {
		a.engine.SetOrder(a.memory.order(a.frugal))
	}
}

// ended notes that the sync is over, and reports whether it was a frugal one.
func (a *Agent) ended() (frugal bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running(nil)
	frugal = a.frugal
	a.running, a.frugal = nil, false
	return frugal
}

// syncs reports whether a sync runs.
func (a *Agent) syncs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running != nil
}
