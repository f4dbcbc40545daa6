package fleet

import (
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// How late a registry may be that should poll now.
const (
	// pollEvery is the longest time between two polls in an open window: a parent holds a poll for up
	// to a minute.
	pollEvery = time.Minute
	// maxReportDelay is how late a report may be before its sender counts as offline: three polls of a
	// minute each, because links are slow. A forwarded report waits for the polls of each registry that
	// forwards it.
	maxReportDelay = 3 * time.Minute
	// maxSyncDelay is how late a report may be before the sync status is unknown, and the registry is
	// silent. Links are often down for a while.
	maxSyncDelay = 15 * time.Minute
)

// windowOf returns the sync windows of a schedule. One that this program cannot read, because a newer
// parent set it, counts as continuous, as it does at the child.
func windowOf(cron, length string) schedule.Window {
	w, err := schedule.Parse(cron, length)
	if err != nil {
		w, _ = schedule.Parse(schedule.Continuous, "")
	}
	return w
}

// pollDue returns when a registry should poll that last polled at heard: at once in an open window,
// else when the next one opens. Zero is never. extra is the end of a window that no tick opened. A
// registry that has not heard of a new schedule yet follows its former one.
func pollDue(v control.Spec, extra, heard time.Time) time.Time {
	cron, length := v.Schedule, v.SyncWindow
	if f := v.Former; f != nil && heard.Before(f.Until) {
		cron, length = f.Schedule, f.SyncWindow
	}
	w := windowOf(cron, length)
	if w.Continuous() {
		return heard
	}
	open, until := w.Open(heard)
	if extra.After(heard) && (!open || extra.After(until)) {
		open, until = true, extra
	}
	if next := heard.Add(pollEvery); open && next.Before(until) {
		return next
	}
	return w.Next(heard)
}

// isOverdue reports whether a poll is overdue at now. hops is the number of registries that forward
// its report.
func isOverdue(due, now time.Time, hops int) bool {
	return !due.IsZero() && now.After(due.Add(maxSyncDelay+time.Duration(hops)*maxReportDelay))
}

// dueOf returns when a descendant should poll again.
func (s *Service) dueOf(r *control.Registry) time.Time {
	last := s.reports.of(r.Name)
	return pollDue(r.Settings, last.Status.WindowEnd, last.SeenAt)
}

// isSilent reports whether a descendant, or a registry between it and this instance, is overdue.
func (s *Service) isSilent(state *control.State, r *control.Registry) bool {
	return s.silentOn(s.pathTo(state, r), s.dueOf) != nil
}

// silentOn returns the highest registry on a path that is overdue; nil if there is none. Reports that
// another registry forwards arrive only with the reports of that registry: a descendant counts as
// overdue if it was overdue when the registry above it was last seen.
func (s *Service) silentOn(path []*control.Registry, due func(*control.Registry) time.Time) *control.Registry {
	by := s.now()
	for i := len(path) - 1; i >= 0; i-- {
		if isOverdue(due(path[i]), by, len(path)-1-i) {
			return path[i]
		}
		by = s.reports.at(path[i].Name).SeenAt
	}
	return nil
}

// connectionState returns the state of a connected registry at now: the one in its last report, or
// Offline if a report is overdue. Outside of its sync windows no report is due.
func connectionState(row metadb.ConnectedRegistry, v control.Spec, h lastReport, now time.Time) string {
	return connectionOf(row, &h, pollDue(v, h.Status.WindowEnd, h.SeenAt), now)
}

// connectionOf is [connectionState] of a registry that should poll again at due.
func connectionOf(row metadb.ConnectedRegistry, h *lastReport, due, now time.Time) string {
	if row.InstanceID == "" || h.SeenAt.IsZero() {
		return api.Offline
	}
	if !due.IsZero() && now.After(due.Add(time.Duration(1+h.Hops)*maxReportDelay)) {
		return api.Offline
	}
	switch h.Status.State {
	case api.Syncing, api.Unhealthy:
		return h.Status.State
	}
	return api.Online
}
