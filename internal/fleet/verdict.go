package fleet

import (
	"context"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/schedule"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// maxSyncDelay is how long after a sync window the registry and its parent may be out of touch before
// the sync status is unknown. Links are often down for a while.
const maxSyncDelay = 15 * time.Minute

// The reasons of a verdict. /health/sync shows them to everybody, so they contain no names.
const (
	unknownInactive = "it is not activated at its parent"
	unknownNew      = "it was never activated"
	unknownRefused  = "the parent refuses this registry"
	unknownNoParent = "its parent was never heard"
	unknownNoReport = "it is activated, and has not reported yet"
	unknownSilent   = "it was not heard when it should have been"
	unknownParent   = "the parent was not heard when it should have been"
	unknownToken    = "its sync token is disabled, or has no valid password"
	unknownListing  = "it is not known yet what the parent has"

	// ReasonDamaged is the reason for an instance whose stored content is damaged, also for a root.
	ReasonDamaged = "stored content is damaged"

	notInSyncFailed   = "items failed"
	notInSyncPending  = "items are still to be fetched or removed"
	notInSyncNoSync   = "no sync has finished yet"
	notInSyncOutdated = "it has not reported yet that it received what changed here"
)

// evidence is the basis of the verdict on one connected registry.
type evidence struct {
	status   wire.Status // its last report
	asOf     time.Time   // when the registry and its parent last agreed on it, or the registry's creation
	unknown  string      // why the current state is unknown; "" if it is known
	outdated bool        // something changed that the registry does not know of yet
}

// verdict says whether a connected registry is in sync. Every surface uses it: the registry itself
// and all its ancestors. If the state may have changed by now, the verdict is Unknown.
func (e evidence) verdict() api.Verdict {
	v := api.Verdict{Status: api.NotInSync, AsOfTime: api.Time(e.asOf)}
	reason := ""
	switch st := e.status; {
	case e.unknown != "":
		v.Status, reason = api.Unknown, e.unknown
	case hasDetail(st, wire.Damaged):
		reason = ReasonDamaged
	case st.ItemsFailed > 0:
		reason = notInSyncFailed
	case st.ItemsPending > 0:
		reason = notInSyncPending
	case st.Watermarks == nil:
		v.Status, reason = api.Unknown, unknownListing
	case st.LastSyncSuccess.IsZero():
		reason = notInSyncNoSync
	case e.outdated:
		reason = notInSyncOutdated
	default:
		v.Status, v.InSync = api.InSync, true
	}
	v.Reason = api.Text(reason)
	return v
}

func hasDetail(st wire.Status, code string) bool {
	return slices.ContainsFunc(st.Details, func(d wire.StatusDetail) bool { return d.Code == code })
}

// ownEvidence returns the evidence on this connected registry. st is its status, and heard is when
// its parent last answered.
func (s *Service) ownEvidence(st wire.Status, heard time.Time) evidence {
	e := evidence{status: st, asOf: heard}
	own := s.control.State().Registry(s.control.Self())
	switch {
	case st.SyncState == notActivated:
		e.unknown = unknownInactive
	case hasDetail(st, wire.ParentRefuses):
		e.unknown = unknownRefused
	case heard.IsZero():
		e.unknown = unknownNoParent
	case own != nil && overdue(own.Settings.Spec, heard, s.now(), 0):
		e.unknown = unknownParent
	}
	return e
}

// descendantEvidence returns the evidence on a descendant, apart from whether it is outdated.
func (s *Service) descendantEvidence(state *control.State, r *control.Registry) evidence {
	h := s.reports.of(r.Name)
	e := evidence{status: h.Status, asOf: h.SeenAt}
	if h.SeenAt.IsZero() {
		e.asOf = r.CreatedAt // the state is unknown since then
	}
	switch {
	case r.InstanceID == "" && h.SeenAt.IsZero() && r.Settings.Epoch == 0:
		e.unknown = unknownNew
	case r.InstanceID == "":
		e.unknown = unknownInactive
	case h.SeenAt.IsZero():
		e.unknown = unknownNoReport
	case !state.MayLogIn(r.SyncToken, s.now()):
		e.unknown = unknownToken
	case s.isSilent(state, r):
		e.unknown = unknownSilent
	}
	return e
}

// isSilent reports whether a descendant, or a registry between it and this instance, is overdue.
// Reports that another registry forwards arrive only with the reports of that registry: a
// descendant counts as overdue if it was overdue when the registry above it was last seen.
func (s *Service) isSilent(state *control.State, r *control.Registry) bool {
	path := s.pathTo(state, r)
	for i, hop := range path {
		by := s.now()
		if i+1 < len(path) {
			by = s.reports.of(path[i+1].Name).SeenAt
		}
		if overdue(hop.Settings.Spec, s.reports.of(hop.Name).SeenAt, by, len(path)-1-i) {
			return true
		}
	}
	return false
}

// pathTo returns a descendant and the registries between it and this instance, the descendant
// first.
func (s *Service) pathTo(state *control.State, r *control.Registry) []*control.Registry {
	path := append([]*control.Registry{r}, state.Ancestors(r.Parent)...)
	if end := slices.IndexFunc(path, func(r *control.Registry) bool { return s.control.IsSelf(r.Name) }); end >= 0 {
		path = path[:end]
	}
	return path
}

// overdue reports whether two registries that last answered each other at heard should have done so
// again by now. The latest time is the end of the first window that opened after heard, plus
// maxSyncDelay, plus maxReportDelay for each registry that forwards the report. A schedule that this
// program cannot read, because a newer parent set it, counts as continuous, as it does at the child.
func overdue(v wire.Spec, heard, now time.Time, hops int) bool {
	w, err := schedule.Parse(v.Schedule, v.SyncWindow)
	if err != nil {
		w, _ = schedule.Parse(schedule.Continuous, "")
	}
	next := w.Next(heard)
	return !next.IsZero() && now.After(next.Add(w.Length+maxSyncDelay+time.Duration(hops)*maxReportDelay))
}

// ownVerdict returns the status of this connected registry and the verdict on it. The status is nil
// before the agent runs.
func (s *Service) ownVerdict() (*wire.Status, api.Verdict) {
	st, heard := s.status()
	if st == nil {
		return nil, evidence{unknown: unknownNoParent}.verdict()
	}
	return st, s.ownEvidence(*st, heard).verdict()
}

// verdict returns the verdict on a descendant. The view is of the content of this instance.
func (s *Service) verdict(c *storage.View, v descendant) (api.Verdict, error) {
	e := s.descendantEvidence(v.state, v.Registry)
	if !e.verdict().InSync {
		return e.verdict(), nil
	}
	var err error
	if e.outdated, err = v.isOutdated(c); e.outdated {
		e.asOf = s.now()
	}
	return e.verdict(), err
}

// isOutdated reports whether a change to the content of a descendant is not covered by the
// descendant's watermark.
func (v descendant) isOutdated(c *storage.View) (bool, error) {
	if v.changed > v.watermark {
		return true, nil
	}
	changes, err := v.cache.changedSince(c, v.watermark)
	if err != nil {
		return false, err
	}
	if !v.cache.mayBeOutdated(v) {
		return false, nil
	}
	for _, entry := range changes {
		if !v.mayRead(entry.Repository) {
			continue
		}
		if changed, err := v.changedIn(c, entry.Repository); err != nil || changed {
			return changed, err
		}
	}
	return false, nil
}

// withVerdict returns a connected registry with the verdict on it.
func (s *Service) withVerdict(ctx context.Context, r api.ConnectedRegistry, err error) (api.ConnectedRegistry, error) {
	if err != nil {
		return r, err
	}
	all := []api.ConnectedRegistry{r}
	err = s.setVerdicts(ctx, all)
	return all[0], err
}

// setVerdicts sets the verdicts on connected registries.
func (s *Service) setVerdicts(ctx context.Context, all []api.ConnectedRegistry) error {
	return s.content.View(ctx, func(c *storage.View) error {
		state := s.control.State()
		cache, err := newRequestCache(c)
		cache.entries = map[string]storage.FeedEntry{}
		for i := 0; i < len(all) && err == nil; i++ {
			r := state.Registry(all[i].Name)
			switch {
			case r == nil: // it was deleted in between
				all[i].Sync = evidence{unknown: unknownInactive}.verdict()
			case s.control.IsSelf(r.Name):
				_, all[i].Sync = s.ownVerdict()
			default:
				var v descendant
				if v, err = s.descendantOf(state, r, cache); err == nil {
					all[i].Sync, err = s.verdict(c, v)
				}
			}
		}
		return err
	})
}
