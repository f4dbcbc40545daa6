package control

import (
	"time"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// The states of a connected registry, as seen from above.
const (
	stateOnline    = "Online"
	stateOffline   = "Offline"
	stateSyncing   = "Syncing"
	stateUnhealthy = "Unhealthy"
)

// patience is how late a connected registry may be before it counts as away:
// three polls of a minute, as a slow link needs. What others pass on waits for
// the polls of each of them.
const patience = 3 * time.Minute

// connectionState returns what is to be thought of a connected registry at
// now: what it last said of itself, unless it should have been heard of
// since. Away from its schedule it is not expected to say anything.
func connectionState(row metadb.ConnectedRegistry, v spec, h heard, now time.Time) string {
	if row.InstanceID == "" || h.SeenAt.IsZero() {
		return stateOffline
	}
	due := h.SeenAt
	if cron, err := schedule.ParseCron(v.Schedule); err == nil && !cron.Continuous() {
		due = cron.Next(h.SeenAt)
	}
	if !due.IsZero() && now.After(due.Add(time.Duration(1+h.Via)*patience)) {
		return stateOffline
	}
	switch h.Status.State {
	case stateSyncing, stateUnhealthy:
		return h.Status.State
	}
	return stateOnline
}
