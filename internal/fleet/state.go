package fleet

import (
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// patience is how late a connected registry may be before it counts as away:
// three polls of a minute, as a slow link needs. What others pass on waits for
// the polls of each of them.
const patience = 3 * time.Minute

// connectionState returns what is to be thought of a connected registry at
// now: what it last said of itself, unless it should have been heard of
// since. Away from its schedule it is not expected to say anything.
func connectionState(row metadb.ConnectedRegistry, v control.Spec, h lastReport, now time.Time) string {
	if row.InstanceID == "" || h.SeenAt.IsZero() {
		return api.Offline
	}
	due := h.SeenAt
	if cron, err := schedule.ParseCron(v.Schedule); err == nil && !cron.Continuous() {
		due = cron.Next(h.SeenAt)
	}
	if !due.IsZero() && now.After(due.Add(time.Duration(1+h.Hops)*patience)) {
		return api.Offline
	}
	switch h.Status.State {
	case api.Syncing, api.Unhealthy:
		return h.Status.State
	}
	return api.Online
}
