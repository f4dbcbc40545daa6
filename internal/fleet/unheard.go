package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
)

// maxUnheard is the number of connected registries that the answer to a write lists at most.
const maxUnheard = 20

// Unheard returns the connected registries that are affected by a write to row and that do not
// receive the change at once, because their sync window is closed, they are overdue or, right below
// this instance, they do not poll. before is the state before the write. A connected registry that
// is not activated is left out: it receives everything with its activation. So are those that the
// caller may not see. The result is nil if there are none.
func (s *Service) Unheard(by control.Caller, before *control.State, row metadb.ControlRow) *api.Unheard {
	after := s.control.State()
	newScopeMap := row.Table == metadb.TokenRow && scopeMapOf(before, row.Name) != scopeMapOf(after, row.Name)
	names := map[string]bool{}
	for _, state := range []*control.State{before, after} {
		for _, name := range affected(state, row, newScopeMap) {
			names[name] = true
		}
	}
	v := &api.Unheard{Registries: []api.UnheardRegistry{}}
	for name := range names {
		r := after.Registry(name)
		if r == nil || r.InstanceID == "" || s.control.IsSelf(name) || !after.SeesRegistry(by.Limits, name) {
			continue
		}
		if at, now := s.expectedAt(after, r); !now {
			v.Registries = append(v.Registries, api.UnheardRegistry{Name: r.Name, ExpectedTime: api.Time(at)})
		}
	}
	if v.Count = len(v.Registries); v.Count == 0 {
		return nil
	}
	slices.SortFunc(v.Registries, func(a, b api.UnheardRegistry) int {
		return cmp.Or(-later(a.ExpectedTime, b.ExpectedTime), cmp.Compare(a.Name, b.Name))
	})
	v.Registries = v.Registries[:min(v.Count, maxUnheard)]
	return v
}

// later compares two times. nil is later than any time.
func later(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// affected returns, in lower case, the connected registries that must receive a change to row: the
// registry or registries that the row describes; those whose clients use the token; and the parent
// of a registry, which admits the registry by its sync token. The registry itself is not affected
// by a change to its sync token, unless the token has a new scope map.
func affected(state *control.State, row metadb.ControlRow, newScopeMap bool) (names []string) {
	for _, name := range state.RegistriesOf(row) {
		r := state.Registry(name)
		if r == nil {
			continue
		}
		if row.Table != metadb.TokenRow || newScopeMap || slices.Contains(r.Settings.ClientTokens, row.Name) {
			names = append(names, strings.ToLower(r.Name))
		}
		if row.Table != metadb.TokenRow || r.SyncToken == row.Name {
			names = append(names, strings.ToLower(r.Parent))
		}
	}
	return names
}

func scopeMapOf(state *control.State, token string) string {
	if t := state.Token(token); t != nil {
		return t.ScopeMap
	}
	return ""
}

// expectedAt returns when a registry is expected to receive a change that is made now: the change
// waits for the sync windows of the registry and of all registries between it and this instance.
// now reports that it receives the change at once. A zero time without now means that the time is
// not known.
func (s *Service) expectedAt(state *control.State, r *control.Registry) (at time.Time, now bool) {
	at = s.now()
	now = true
	path := s.pathTo(state, r)
	for i := len(path) - 1; i >= 0; i-- {
		hop, last := path[i], s.reports.of(path[i].Name)
		w, err := schedule.Parse(hop.Settings.Schedule, hop.Settings.SyncWindow)
		if err != nil || hop.InstanceID == "" || !state.MayLogIn(hop.SyncToken, s.now()) || s.isSilent(state, hop) {
			return time.Time{}, false
		}
		open, _ := w.Open(at)
		switch extra := at.Before(last.Status.WindowEnd); {
		case open && i == len(path)-1 && s.isQuiet(last):
			return time.Time{}, false
		case !open && !(extra && !s.isQuiet(last)):
			at, now = w.Next(at), false
			if at.IsZero() {
				return at, false
			}
		}
	}
	return at, now
}

// isQuiet reports whether a registry that may poll now does not count as connected: a child that
// does not poll, or a registry further below that was last seen too long ago.
func (s *Service) isQuiet(last lastReport) bool {
	connected := s.isConnected(last.Status.Name)
	if last.Hops == 0 && (connected || !s.db.Shared()) { // else another process may hold its poll
		return !connected
	}
	return s.now().After(last.SeenAt.Add(time.Duration(1+last.Hops) * maxReportDelay))
}
