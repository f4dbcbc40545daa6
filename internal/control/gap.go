package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/auth"
)

// A Gap is a repository, or a pattern, that a connected registry may sync and an ancestor of it may
// not, so that it never arrives.
type Gap struct {
	Registry, Repository string
	Ancestors            []string // from the parent upwards
}

// String describes the gap.
func (g Gap) String() string {
	noun := "its ancestor"
	if len(g.Ancestors) > 1 {
		noun = "its ancestors"
	}
	return fmt.Sprintf("'%s' gets nothing of '%s', because %s '%s' may not sync it", g.Registry, g.Repository, noun,
		strings.Join(g.Ancestors, "', '"))
}

// Remedy returns the command that closes the gap.
func (g Gap) Remedy() string {
	return fmt.Sprintf("ferry connected-registry permissions update -n %s --add '%s'", g.Registry, g.Repository)
}

// maxGaps bounds the gaps of one connected registry.
const maxGaps = 20

// Gaps returns at most 20 gaps of a connected registry, as far as this state has its ancestors. An
// exclusion that takes only a part of a pattern away is no gap.
func (s *State) Gaps(r *Registry) (gaps []Gap) {
	if r.Parent == "" {
		return nil
	}
	own := s.Token(r.SyncToken)
	if own == nil {
		return nil
	}
	ancestors := s.Ancestors(r.Parent)
	for _, action := range syncActions(r.Settings.Mode) {
		for _, pattern := range own.Permissions.Patterns(action) {
			known := slices.ContainsFunc(gaps, func(g Gap) bool { return g.Repository == pattern })
			if known || !own.Permissions.AllowsRepository(pattern, action) {
				continue
			}
			g := Gap{Registry: r.Name, Repository: pattern}
			for _, a := range ancestors {
				// A connected registry does not know its own sync token. Its parent sends it its own gaps.
				if t := s.Token(a.SyncToken); t != nil && !t.Permissions.AllowsRepository(pattern, action) {
					g.Ancestors = append(g.Ancestors, a.Name)
				}
			}
			if len(g.Ancestors) > 0 {
				gaps = append(gaps, g)
			}
			if len(gaps) == maxGaps {
				return gaps
			}
		}
	}
	return gaps
}

// PossibleGaps returns patterns that take at least as many bytes as [State.Gaps] of a connected
// registry, whatever its ancestors may sync.
func (s *State) PossibleGaps(r *Registry) (patterns []string) {
	own := s.Token(r.SyncToken)
	if r.Parent == "" || own == nil {
		return nil
	}
	for _, action := range syncActions(r.Settings.Mode) {
		patterns = append(patterns, own.Permissions.Patterns(action)...)
	}
	slices.SortFunc(patterns, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	patterns = slices.Compact(patterns)
	return patterns[:min(len(patterns), maxGaps)]
}

// syncActions are the actions with which content moves in a mode.
func syncActions(mode string) []auth.Action {
	if mode == api.ReadWrite {
		return []auth.Action{auth.ContentRead, auth.ContentWrite}
	}
	return []auth.Action{auth.ContentRead}
}

// maxPermissionWarnings bounds the warnings in an answer.
const maxPermissionWarnings = 20

// PermissionWarnings returns warnings of the gaps of those connected registries whose sync token has the
// scope map, and of their descendants, as far as the caller sees them.
func (s *Service) PermissionWarnings(by Caller, scopeMap string) []api.Warning {
	state := s.State()
	var all []api.Warning
	for _, token := range state.entries(state.tokensByScopeMap, scopeMap) {
		all = append(all, s.tokenWarnings(by, state, token, maxPermissionWarnings-len(all))...)
	}
	return all
}

// tokenWarnings returns at most limit warnings of the gaps of the connected registry with the sync
// token, and of its descendants.
func (s *Service) tokenWarnings(by Caller, state *State, token string, limit int) (all []api.Warning) {
	r := state.SyncedBy(token)
	if r == nil {
		return nil
	}
	for _, r := range append([]*Registry{r}, state.Below(r.Name)...) {
		if !state.SeesRegistry(by.Limits, r.Name) {
			continue
		}
		for _, g := range state.Gaps(r) {
			if len(all) >= limit {
				return all
			}
			all = append(all, api.Warning{Message: g.String(), Hint: g.Remedy()})
		}
	}
	return all
}
