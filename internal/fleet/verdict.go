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

// syncPatience is how much later than its schedule says a site and its parent may
// hear each other before nothing is known of its sync: a link is often down for
// a while.
const syncPatience = 15 * time.Minute

// The reasons of a verdict. Anybody may read them, in /health/sync, so they name
// nothing.
const (
	doubtInactive = "it is not activated at its parent"
	doubtNew      = "it was never activated"
	doubtRefused  = "the parent refuses this registry"
	doubtNoParent = "its parent was never heard"
	doubtNoReport = "it is activated, and has not reported yet"
	doubtSilent   = "it was not heard when it should have been"
	doubtParent   = "the parent was not heard when it should have been"
	doubtToken    = "its sync token is disabled, or has no password that is good now"
	doubtListing  = "it is not known yet what the parent has"

	// ReasonDamaged is of an instance whose own content is damaged, a root too.
	ReasonDamaged = "stored content is damaged"

	lacksFailed  = "items failed"
	lacksPending = "items are still to come, or to go"
	lacksSync    = "no sync came to its end yet"
	lacksChange  = "what changed here since it was last heard has not reached it"
)

// evidence is what is known of a connected registry's sync.
type evidence struct {
	status wire.Status // what it last said
	asOf   time.Time   // when it and its parent last agreed on that, or its creation; zero is never
	doubt  string      // why that says nothing of now; "" is nothing known
	missed bool        // something changed since of which it does not know
}

// verdict says whether a connected registry is in sync. It decides for every
// surface: at the site, and at every ancestor. What may be otherwise by now is
// Unknown, whatever it was.
func (e evidence) verdict() api.Verdict {
	v := api.Verdict{Status: api.NotInSync, AsOfTime: api.Time(e.asOf)}
	reason := ""
	switch st := e.status; {
	case e.doubt != "":
		v.Status, reason = api.Unknown, e.doubt
	case hasDetail(st, wire.Damaged):
		reason = ReasonDamaged
	case st.ItemsFailed > 0:
		reason = lacksFailed
	case st.ItemsPending > 0:
		reason = lacksPending
	case st.Watermarks == nil:
		v.Status, reason = api.Unknown, doubtListing
	case st.LastSyncSuccess.IsZero():
		reason = lacksSync
	case e.missed:
		reason = lacksChange
	default:
		v.Status, v.InSync = api.InSync, true
	}
	v.Reason = api.Text(reason)
	return v
}

func hasDetail(st wire.Status, code string) bool {
	return slices.ContainsFunc(st.Details, func(d wire.StatusDetail) bool { return d.Code == code })
}

// ownEvidence is what this connected registry, which says st of itself, knows of
// its own sync. heard is when its parent last answered.
func (s *Service) ownEvidence(st wire.Status, heard time.Time) evidence {
	e := evidence{status: st, asOf: heard}
	own := s.control.State().Registry(s.control.Self())
	switch {
	case st.SyncState == notActivated:
		e.doubt = doubtInactive
	case hasDetail(st, wire.ParentRefuses):
		e.doubt = doubtRefused
	case heard.IsZero():
		e.doubt = doubtNoParent
	case own != nil && overdue(own.Settings.Spec, heard, s.now(), 0):
		e.doubt = doubtParent
	}
	return e
}

// descendantEvidence is what is known of a site's sync, but for what it missed.
func (s *Service) descendantEvidence(state *control.State, r *control.Registry) evidence {
	h := s.reports.of(r.Name)
	e := evidence{status: h.Status, asOf: h.SeenAt}
	if h.SeenAt.IsZero() {
		e.asOf = r.CreatedAt // since then nothing is known
	}
	switch {
	case r.InstanceID == "" && h.SeenAt.IsZero() && r.Settings.Epoch == 0:
		e.doubt = doubtNew
	case r.InstanceID == "":
		e.doubt = doubtInactive
	case h.SeenAt.IsZero():
		e.doubt = doubtNoReport
	case !state.MayLogIn(r.SyncToken, s.now()):
		e.doubt = doubtToken
	case s.isSilent(state, r):
		e.doubt = doubtSilent
	}
	return e
}

// isSilent reports whether a site should have been heard since it last was. What
// others pass on waits for them: how late it is counts up to when they were
// heard, and nothing is known of it once they are silent themselves.
func (s *Service) isSilent(state *control.State, r *control.Registry) bool {
	way := s.wayTo(state, r)
	for i, at := range way {
		by := s.now()
		if i+1 < len(way) {
			by = s.reports.of(way[i+1].Name).SeenAt
		}
		if overdue(at.Settings.Spec, s.reports.of(at.Name).SeenAt, by, len(way)-1-i) {
			return true
		}
	}
	return false
}

// wayTo returns a site and those between it and this instance, the site first.
func (s *Service) wayTo(state *control.State, r *control.Registry) []*control.Registry {
	way := append([]*control.Registry{r}, state.Ancestors(r.Parent)...)
	if end := slices.IndexFunc(way, func(r *control.Registry) bool { return s.control.IsSelf(r.Name) }); end >= 0 {
		way = way[:end]
	}
	return way
}

// overdue reports whether two that last heard each other at heard should have
// done so again by now: by the end of the first window that opened since, and
// some patience, more where others pass it on. A schedule that this program
// cannot read, which a newer parent may know, counts as continuous, as it does
// at the site.
func overdue(v wire.Spec, heard, now time.Time, hops int) bool {
	w, err := schedule.Parse(v.Schedule, v.SyncWindow)
	if err != nil {
		w, _ = schedule.Parse(schedule.Continuous, "")
	}
	next := w.Next(heard)
	return !next.IsZero() && now.After(next.Add(w.Length+syncPatience+time.Duration(hops)*patience))
}

// ownVerdict is the verdict on this connected registry, and what it says of itself;
// nil before its agent runs.
func (s *Service) ownVerdict() (*wire.Status, api.Verdict) {
	st, heard := s.status()
	if st == nil {
		return nil, evidence{doubt: doubtNoParent}.verdict()
	}
	return st, s.ownEvidence(*st, heard).verdict()
}

// verdict is the verdict on a site. The view is of the content here.
func (s *Service) verdict(c *storage.View, v descendant) (api.Verdict, error) {
	e := s.descendantEvidence(v.state, v.Registry)
	if !e.verdict().InSync {
		return e.verdict(), nil
	}
	var err error
	if e.missed, err = v.missed(c); e.missed {
		e.asOf = s.now()
	}
	return e.verdict(), err
}

// missed reports whether something changed of what a site gets since it last knew
// of everything.
func (v descendant) missed(c *storage.View) (bool, error) {
	if v.changed > v.watermark {
		return true, nil
	}
	changes, err := v.shared.changedSince(c, v.watermark)
	if err != nil {
		return false, err
	}
	for _, entry := range changes {
		if changed, err := v.changedIn(c, entry.Repository); err != nil || changed {
			return changed, err
		}
	}
	return false, nil
}

// judged returns a connected registry with the verdict on it.
func (s *Service) judged(ctx context.Context, r api.ConnectedRegistry, err error) (api.ConnectedRegistry, error) {
	if err != nil {
		return r, err
	}
	all := []api.ConnectedRegistry{r}
	err = s.judge(ctx, all)
	return all[0], err
}

// judge sets the verdicts on connected registries.
func (s *Service) judge(ctx context.Context, all []api.ConnectedRegistry) error {
	return s.content.View(ctx, func(c *storage.View) error {
		state := s.control.State()
		common, err := newShared(c)
		for i := 0; i < len(all) && err == nil; i++ {
			r := state.Registry(all[i].Name)
			switch {
			case r == nil: // it was deleted meanwhile
				all[i].Sync = evidence{doubt: doubtInactive}.verdict()
			case s.control.IsSelf(r.Name):
				_, all[i].Sync = s.ownVerdict()
			default:
				var v descendant
				if v, err = s.descendantOf(state, r, common); err == nil {
					all[i].Sync, err = s.verdict(c, v)
				}
			}
		}
		return err
	})
}
