package fleet

import (
	"context"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A Standing is how a descendant stands now, as far as this instance knows.
type Standing struct {
	Name       string
	Verdict    string // api.InSync, api.NotInSync or api.Unknown
	State      string // such as api.CatchingUp; see judge
	Reason     string // the code of the reason for the state; "" is none
	Cause      string // the registry above it that is the reason; "" is none
	Silent     bool   // it, or a registry above it, should have been heard and was not
	Active     bool   // an instance is activated
	Connection string // such as api.Online
	Heard      time.Time
	InSync     time.Time // when it was last known to be in sync; zero is never
	Since      time.Time // since when it is not known to be equal to its parent; zero if it is, or if it never began
	Open       bool      // a sync window is open
	NextWindow time.Time // when the next one opens; zero while one is open
	Problems   []string  // codes of its status details, which are known ones or "Other"

	ItemsPending, ItemsFailed int   // by its last report
	BytesPending              int64 // by its last report; a lower bound, until all items are planned
	Outdated                  bool  // something changed that its last report does not cover
	ItemsUnheard              int   // what changed so; it may have some of that
	BytesUnheard              int64 // of layers
	Uncounted                 bool  // more may have changed so than these counts say
	BytesPerSecond            int64 // 0 while no sync runs

	registry *control.Registry
	path     *subscriptionPath // nil for this connected registry itself
	report   *lastReport
	verdict  api.Verdict
	cursor   *cursor   // of a standing that is only a place in a list; nil otherwise
	opened   time.Time // when the window of its schedule opened that is open; zero if none is, or always
}

// Lag returns the time since when it is not known to be equal to its parent; 0 if it is.
func (v *Standing) Lag(now time.Time) time.Duration {
	if v.Since.IsZero() {
		return 0
	}
	return max(now.Sub(v.Since), 0)
}

// ItemsToGo returns how many items it has yet to receive or remove.
func (v *Standing) ItemsToGo() int { return v.ItemsPending + v.ItemsFailed + v.ItemsUnheard }

// BytesToGo returns how many bytes of layers it has yet to receive.
func (v *Standing) BytesToGo() int64 { return v.BytesPending + v.BytesUnheard }

// mayBeMore reports whether there may be more to go than is counted.
func (v *Standing) mayBeMore() bool {
	return v.Active && (v.Uncounted || v.report.Status.ItemsUnplanned > 0)
}

// problemCodes are the codes of status details that have a name of their own in the metrics: a
// descendant may send any code.
var problemCodes = []string{"LinkDown", "ParentUnwell", "ParentRefuses", "ParentNotReady", "Deactivated", "ClockSkew",
	"ItemsFailed", "SyncError", "DiskError", "BudgetSpent", "Damaged", wire.PermissionGap,
	wire.Conflict, wire.ChangesRefused, wire.ParentTooOld}

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

// Standings returns the standing of every descendant, each followed by its own descendants. It reads
// the content that changed since the last call, and everything else from memory.
func (s *Service) Standings(ctx context.Context) (all []Standing, err error) {
	err = s.content.View(ctx, func(c *storage.View) error {
		all, err = s.standings(c)
		return err
	})
	return all, err
}

func (s *Service) standings(c *storage.View) ([]Standing, error) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	if err := s.refreshLocked(c); err != nil {
		return nil, err
	}
	return s.standingsOf(s.tracker.below), nil
}

// standing returns the standing of one connected registry: a descendant, or this one itself. It looks at
// the registries on the way to it, and at no others.
func (s *Service) standing(c *storage.View, name string) (*Standing, error) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	state := s.control.State()
	r := state.Registry(name)
	switch {
	case r == nil:
		return nil, control.MapNotFound(metadb.ErrNotFound, "connected registry", name)
	case s.control.IsSelf(r.Name):
		own := s.ownStanding(r)
		return &own, nil
	}
	path := s.pathTo(state, r)
	if _, err := s.lookAt(c, state, path); err != nil {
		return nil, err
	}
	slices.Reverse(path)
	all := s.standingsOf(path)
	return &all[len(all)-1], nil
}

// ownStanding returns the standing of this connected registry, as it sees itself.
func (s *Service) ownStanding(r *control.Registry) Standing {
	st, heard := s.status()
	now := s.now()
	v := Standing{Name: r.Name, Active: true, registry: r, report: &lastReport{}}
	if st == nil {
		e := evidence{unknown: unknownNoParent}
		v.verdict = e.verdict()
		v.judge(e, nil, now)
		return v
	}
	e := s.ownEvidence(*st, heard)
	v.verdict, v.report = e.verdict(), &lastReport{SeenAt: heard, Status: *st, history: history{MovedAt: heard}}
	v.Active, v.Heard, v.Connection = e.unknown != unknownInactive, heard, st.State
	v.Silent, e.silent = e.unknown == unknownParent || e.unknown == unknownNoParent, r
	if e.unknown == unknownRefused {
		e.unknown = unknownToken
	}
	if !v.verdict.InSync {
		v.Since = st.LastSyncSuccess
	}
	p := phase{}
	v.Open, v.NextWindow = p.at(r.Settings, st.WindowEnd, now)
	v.ItemsPending, v.ItemsFailed = st.ItemsPending, st.ItemsFailed
	v.BytesPending, v.BytesPerSecond = max(st.BytesTotal-st.BytesDone, 0), st.BytesPerSecond
	v.judge(e, nil, now)
	return v
}

// standingsOf returns the standings of descendants. Parents come before their children. The tracker
// is locked, and up to date.
func (s *Service) standingsOf(below []*control.Registry) []Standing {
	now := s.now()
	all := make([]Standing, 0, len(below))
	for _, r := range below {
		row := s.tracker.of[r.Name]
		if row == nil || row.registries[0] != r {
			continue // it was created, changed or deleted just now
		}
		var parent *Standing
		if len(row.registries) > 1 {
			above := s.tracker.of[row.registries[1].Name]
			if above != nil && above.place < len(all) && all[above.place].registry == row.registries[1] {
				parent = &all[above.place]
			}
		}
		row.place = len(all)
		all = append(all, s.standingOf(row, parent, now))
	}
	return all
}

// standingOf returns the standing of one descendant. parent is that of its parent, or nil.
func (s *Service) standingOf(row *tracked, parent *Standing, now time.Time) Standing {
	r := row.registries[0]
	last := s.reports.at(r.Name)
	e := s.descendantEvidence(row.subscriptionPath, last, s.cachedDue)
	v := Standing{
		Name: r.Name, Active: r.InstanceID != "", Heard: last.SeenAt,
		registry: r, path: row.subscriptionPath, report: last,
		Connection:   connectionOf(r.ConnectedRegistry, last, row.due.of(r, last), now),
		Problems:     Problems(last.Status.Details, func(d wire.StatusDetail) string { return d.Code }),
		ItemsPending: last.Status.ItemsPending, ItemsFailed: last.Status.ItemsFailed,
		BytesPending: max(last.Status.BytesTotal-last.Status.BytesDone, 0), Outdated: row.unheard.any,
		verdict: s.verdictOn(e, row.unheard.any),
	}
	if v.Active {
		v.ItemsUnheard, v.BytesUnheard, v.Uncounted = row.unheard.items, row.unheard.bytes, row.unheard.more
	}
	v.Verdict = v.verdict.Status
	v.InSync = lastInSync(last, v.verdict.InSync, now)
	v.Open, v.NextWindow = row.phase.at(r.Settings, last.Status.WindowEnd, now)
	v.opened = row.phase.opened()
	if v.Connection == api.Syncing {
		v.BytesPerSecond = last.Status.BytesPerSecond
	}
	switch v.Silent = e.unknown == unknownSilent; {
	case v.verdict.InSync, last.SeenAt.IsZero(), !v.Active:
	case last.Since.IsZero(): // it was equal when it was last heard
		v.Since = last.SeenAt
	default:
		v.Since = last.Since
	}
	v.judge(e, parent, now)
	return v
}

// cachedDue is [Service.dueOf] from the tracker's cache. The tracker is locked.
func (s *Service) cachedDue(r *control.Registry) time.Time {
	row := s.tracker.of[r.Name]
	if row == nil || row.registries[0] != r {
		return s.dueOf(r)
	}
	return row.due.of(r, s.reports.at(r.Name))
}

// lastInSync returns when a descendant was last known to have everything; zero is never.
func lastInSync(last *lastReport, inSync bool, now time.Time) time.Time {
	at := last.Status.LastSyncSuccess
	if inSync || hasAll(last.Status) {
		at = last.SeenAt
	}
	if at.After(now) {
		return now
	}
	return at
}

// hasAll reports whether a registry had everything that it knew of, by its report.
func hasAll(st wire.Status) bool {
	return !st.LastSyncSuccess.IsZero() && st.ItemsPending == 0 && st.ItemsFailed == 0 && st.Watermarks != nil &&
		!hasDetail(st, wire.Damaged)
}

// A phase caches whether the scheduled window of a registry is open, because the answer is the same
// until its end. The zero value knows nothing.
type phase struct {
	from, end  time.Time
	window     schedule.Window
	open, read bool
}

// at reports whether a sync window is open at now: one of the schedule, or one that ends at extra. If
// none is, it also returns when the next one opens.
func (p *phase) at(v control.Spec, extra, now time.Time) (open bool, next time.Time) {
	if !p.read {
		p.window, p.read = windowOf(v.Schedule, v.SyncWindow), true
	}
	if p.window.Continuous() {
		return true, time.Time{}
	}
	if p.end.IsZero() || now.Before(p.from) || !now.Before(p.end) {
		var until time.Time
		p.from = now
		if p.open, until = p.window.Open(now); p.open {
			p.end = until
		} else {
			p.end = p.window.Next(now)
		}
	}
	if p.open || now.Before(extra) {
		return true, time.Time{}
	}
	return false, p.end
}

// opened returns when the window opened that is open; zero if none is, or always.
func (p *phase) opened() time.Time {
	if !p.open {
		return time.Time{}
	}
	return p.end.Add(-p.window.Length)
}

// A dueCache caches when a registry should poll again, for one report. The zero value knows nothing.
type dueCache struct {
	at, heard, extra time.Time
	read             bool
}

func (d *dueCache) of(r *control.Registry, last *lastReport) time.Time {
	if extra := last.Status.WindowEnd; !d.read || !d.heard.Equal(last.SeenAt) || !d.extra.Equal(extra) {
		*d = dueCache{at: pollDue(r.Settings, extra, last.SeenAt), heard: last.SeenAt, extra: extra, read: true}
	}
	return d.at
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
