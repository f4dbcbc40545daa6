package connected

import (
	"context"
	"errors"
	"slices"
	"time"

	"ferry/internal/retry"
	"ferry/internal/wire"
)

// deactivatedPause is how long an instance that was deactivated while it ran
// leaves its place to another.
const deactivatedPause = 10 * time.Minute

// activate binds this instance to its connected registry, however long that
// takes; only ctx's end stops it.
func (a *Agent) activate(ctx context.Context) {
	for ctx.Err() == nil {
		woken := a.wakes()
		answer, err := a.parent.Activate(ctx, wire.ActivateRequest{InstanceID: a.instanceID, Version: a.version})
		if err == nil && answer.Desired == nil {
			err = errors.New("the parent's answer has no desired state")
		}
		if err == nil {
			err = a.obey(ctx, answer.Desired)
		}
		if err == nil {
			a.good(ctx)
			a.remember(ctx, func(m *memory) { m.Activated, m.ActivatedAt = true, a.now() })
			a.log.Info("connected registry is activated", "registry", a.name,
				"schedule", answer.Desired.Self.Schedule, "window", answer.Desired.Self.SyncWindow)
			return
		}
		if ctx.Err() == nil {
			retry.Sleep(ctx, a.bad(err), woken)
		}
	}
}

// deactivated notes that the parent does not know this instance any more. It
// goes on serving, and leaves its place to another for a while: whoever
// deactivates a running instance has a new one in mind.
func (a *Agent) deactivated(ctx context.Context) {
	woken := a.wakes()
	a.log.Error("connected registry was deactivated: this instance goes on serving what it has, and will try to activate again",
		"registry", a.name, "after", deactivatedPause, "hint", "ferry sync now activates it at once")
	a.remember(ctx, func(m *memory) { m.Activated = false })
	retry.Sleep(ctx, deactivatedPause, woken)
}

// obey makes the parent's decisions this instance's own.
func (a *Agent) obey(ctx context.Context, d *wire.Desired) error {
	if err := a.fleet.Apply(ctx, d); err != nil {
		return local(err)
	}
	had := a.recalled().Self
	a.remember(ctx, func(m *memory) { m.Self, m.DesiredVersion = d.Self, d.Version })
	if had.Name != "" && (had.Schedule != d.Self.Schedule || had.SyncWindow != d.Self.SyncWindow) {
		a.log.Info("sync schedule changed", "schedule", d.Self.Schedule, "window", d.Self.SyncWindow)
	}
	if !slices.Equal(had.Priorities, d.Self.Priorities) {
		a.reorder()
	}
	return nil
}
