package fleet

import (
	"context"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/schedule"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A Standing is how a descendant stands now, as far as this instance knows.
type Standing struct {
	Name     string
	Verdict  string // api.InSync, api.NotInSync or api.Unknown
	Silent   bool   // it, or a registry above it, should have been heard and was not
	Active   bool   // an instance is activated
	State    string // of the connection, such as api.Online
	Heard    time.Time
	InSync   time.Time // when it was last known to be in sync; zero is never
	Open     bool      // a sync window is open
	Problems []string  // codes of its status details, which are known ones or "Other"

	ItemsPending, ItemsFailed int
	BytesPending              int64 // a lower bound, until all items are planned
}

// problemCodes are the codes of status details that have a name of their own in the metrics: a
// descendant may send any code.
var problemCodes = []string{"LinkDown", "ParentUnwell", "ParentRefuses", "ParentNotReady", "Deactivated", "ClockSkew",
	"ItemsFailed", "SyncError", "DiskError", "BudgetSpent", "Damaged"}

// Problems returns the codes of status details, each once; "Other" stands for unknown ones.
func Problems[D any](details []D, code func(D) string) (codes []string) {
	for _, d := range details {
		c := code(d)
		if !slices.Contains(problemCodes, c) {
			c = "Other"
		}
		if !slices.Contains(codes, c) {
			codes = append(codes, c)
		}
	}
	return codes
}

// Standings returns the standing of every descendant. It reads the repositories that changed since
// the oldest watermark once for all of them, and everything else from memory.
func (s *Service) Standings(ctx context.Context) (all []Standing, err error) {
	err = s.content.View(ctx, func(c *storage.View) error {
		cache, err := newRequestCache(c)
		if err != nil {
			return err
		}
		cache.entries = map[string]storage.FeedEntry{}
		state, now := s.control.State(), s.now()
		below := state.Below(s.control.Self())
		all = make([]Standing, 0, len(below))
		for _, r := range below {
			v, err := s.descendantOf(state, r, cache)
			if err != nil {
				return err
			}
			verdict, err := s.verdict(c, v)
			if err != nil {
				return err
			}
			st := v.report.Status
			all = append(all, Standing{
				Name: r.Name, Verdict: verdict.Status, Active: r.InstanceID != "",
				Silent:       verdict.Reason != nil && *verdict.Reason == unknownSilent,
				State:        connectionState(r.ConnectedRegistry, r.Settings, v.report, now),
				Heard:        v.report.SeenAt,
				InSync:       v.lastInSync(verdict.InSync, now),
				Open:         windowOpen(r.Settings.Schedule, r.Settings.SyncWindow, st.WindowEnd, now),
				Problems:     Problems(st.Details, func(d wire.StatusDetail) string { return d.Code }),
				ItemsPending: st.ItemsPending, ItemsFailed: st.ItemsFailed,
				BytesPending: max(st.BytesTotal-st.BytesDone, 0),
			})
		}
		return ctx.Err()
	})
	return all, err
}

// lastInSync returns when a descendant was last known to have everything; zero is never.
func (v descendant) lastInSync(inSync bool, now time.Time) time.Time {
	st, at := v.report.Status, v.report.Status.LastSyncSuccess
	if inSync || !at.IsZero() && st.ItemsPending == 0 && st.ItemsFailed == 0 && st.Watermarks != nil {
		at = v.report.SeenAt
	}
	if at.After(now) {
		return now
	}
	return at
}

// windowOpen reports whether a sync window is open: one of the schedule, or one that ends at extra.
// A schedule that this program cannot read counts as continuous, as it does at the child.
func windowOpen(cron, window string, extra, now time.Time) bool {
	if cron == schedule.Continuous || now.Before(extra) {
		return true
	}
	w, err := schedule.Parse(cron, window)
	if err != nil {
		return true
	}
	open, _ := w.Open(now)
	return open
}

// HeldPolls returns how many polls of children are held now.
func (s *Service) HeldPolls() (n int) {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	for _, c := range s.connections.of {
		n += c.held
	}
	return n
}

// WindowOpen reports whether a sync window of this connected registry is open, by its status.
func WindowOpen(s *api.SyncStatus) bool { return s.NextSyncTime == nil && !s.Paused }
