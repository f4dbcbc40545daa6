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

// maxUnheard is how many connected registries are named that have not heard of a write.
const maxUnheard = 20

// Unheard returns the connected registries that a write to a row, in the state
// before, concerns and that do not hear of it at once: their sync window is
// closed, or they should have been heard and were not. A site that is held by
// nobody hears of everything when it is activated. nil is none.
func (s *Service) Unheard(before *control.State, row metadb.ControlRow) *api.Unheard {
	after := s.control.State()
	rescoped := row.Table == metadb.TokenRow && scopeMapOf(before, row.Name) != scopeMapOf(after, row.Name)
	concerned := map[string]bool{} // by name
	for _, state := range []*control.State{before, after} {
		for _, name := range hearers(state, row, rescoped) {
			concerned[name] = true
		}
	}
	v := &api.Unheard{Registries: []api.UnheardRegistry{}}
	for name := range concerned {
		r := after.Registry(name)
		if r == nil || r.InstanceID == "" || s.control.IsSelf(name) {
			continue
		}
		if at, now := s.hears(after, r); !now {
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

// later compares two times, of which nil is later than any.
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

// hearers returns, in lower case, the connected registries that must hear of a
// row: those that it is of, those whose clients use a token, and those that let in
// their children with it. The one that a sync token is of must hear only what
// else it may have.
func hearers(state *control.State, row metadb.ControlRow, rescoped bool) (names []string) {
	for _, name := range state.UsersOf(row) {
		r := state.Registry(name)
		if r == nil {
			continue
		}
		if row.Table != metadb.TokenRow || rescoped || slices.Contains(r.Settings.ClientTokens, row.Name) {
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

// hears returns when a site is expected to hear what is decided now: with the
// windows of everybody on the way to it, and its own. now is that it hears at
// once; a zero time without that is that nobody knows.
func (s *Service) hears(state *control.State, r *control.Registry) (at time.Time, now bool) {
	at = s.now()
	now = true
	way := s.wayTo(state, r)
	for i := len(way) - 1; i >= 0; i-- {
		hop, last := way[i], s.reports.of(way[i].Name)
		w, err := schedule.Parse(hop.Settings.Schedule, hop.Settings.SyncWindow)
		if err != nil || hop.InstanceID == "" || !state.MayLogIn(hop.SyncToken, s.now()) || s.isSilent(state, hop) {
			return time.Time{}, false
		}
		open, until := w.Open(at)
		switch extra := at.Before(last.Status.WindowEnd); {
		case open && i == len(way)-1 && s.isQuiet(last, until.Add(-w.Length)):
			return time.Time{}, false
		case !open && !(extra && !s.isQuiet(last, time.Time{})):
			at, now = w.Next(at), false
			if at.IsZero() {
				return at, false
			}
		}
	}
	return at, now
}

// isQuiet reports whether a site that may poll since opened was last heard too long ago to
// count as connected.
func (s *Service) isQuiet(last lastReport, opened time.Time) bool {
	if last.SeenAt.After(opened) {
		opened = last.SeenAt
	}
	return s.now().After(opened.Add(time.Duration(1+last.Hops) * patience))
}
