package fleet

import (
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

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
	notInSyncUnsent   = "changes made there are not sent to its parent yet"
	notInSyncNoSync   = "no sync has finished yet"
	notInSyncGap      = "its ancestors may not sync a part of its repositories"
	notInSyncOutdated = "it has not reported yet that it received what changed here"
)

// evidence is the basis of the verdict on one connected registry.
type evidence struct {
	status   wire.Status       // its last report
	asOf     time.Time         // when the registry and its parent last agreed on it, or the registry's creation
	unknown  string            // why the current state is unknown; "" if it is known
	silent   *control.Registry // the registry that should have been heard and was not; nil is none
	outdated bool              // something changed that the registry does not know of yet
	gap      bool              // an ancestor may not sync a part of what the registry may
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
	case st.ItemsToSend > 0:
		reason = notInSyncUnsent
	case st.Watermarks == nil:
		v.Status, reason = api.Unknown, unknownListing
	case st.LastSyncSuccess.IsZero():
		reason = notInSyncNoSync
	case e.outdated:
		reason = notInSyncOutdated
	case e.gap:
		reason = notInSyncGap
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
	e.gap = own != nil && len(own.Settings.Gaps) > 0
	switch {
	case st.SyncState == notActivated:
		e.unknown = unknownInactive
	case hasDetail(st, wire.ParentRefuses):
		e.unknown = unknownRefused
	case heard.IsZero():
		e.unknown = unknownNoParent
	case own != nil && isOverdue(pollDue(own.Settings, st.WindowEnd, heard), s.now(), 0):
		e.unknown = unknownParent
	}
	return e
}

// descendantEvidence returns the evidence on the descendant at the end of a path, apart from whether it
// is outdated. due returns when a registry should poll again.
func (s *Service) descendantEvidence(
	p *subscriptionPath, h *lastReport, due func(*control.Registry) time.Time,
) evidence {
	r := p.registries[0]
	e := evidence{status: h.Status, asOf: h.SeenAt, gap: p.gap}
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
	case !p.tokens[0].MayLogIn(s.now()):
		e.unknown = unknownToken
	default:
		if e.silent = s.silentOn(p.registries, due); e.silent != nil {
			e.unknown = unknownSilent
		}
	}
	return e
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
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	state := s.control.State()
	r := state.Registry(v.Name)
	if r == nil {
		return api.Verdict{}, control.MapNotFound(metadb.ErrNotFound, "connected registry", v.Name)
	}
	if _, err := s.lookAt(c, state, []*control.Registry{r}); err != nil {
		return api.Verdict{}, err
	}
	e := s.descendantEvidence(v.subscriptionPath, &v.report, s.dueOf)
	return s.verdictOn(e, s.tracker.of[r.Name].unheard.any), nil
}

// verdictOn returns the verdict on a descendant that is outdated or not.
func (s *Service) verdictOn(e evidence, outdated bool) api.Verdict {
	v := e.verdict()
	if outdated && v.InSync {
		e.outdated, e.asOf = true, s.now()
		v = e.verdict()
	}
	return v
}
