package control

import (
	"fmt"
	"slices"

	"ferry/internal/api"
	"ferry/internal/auth"
)

// An exclusion in a scope map takes an action on repositories away from all other actions of the same
// scope map. It forbids nothing: granting what it covers removes it.

// excluded returns the pattern and the action of an exclusion. ok is false for any other action.
func excluded(text string) (pattern string, action auth.Action, ok bool) {
	kind, name, action, err := auth.ParseAction(text)
	if err != nil || kind != auth.OnRepository {
		return "", "", false
	}
	pattern, ok = auth.Excluded(name)
	return pattern, action, ok
}

// HasExclusions reports whether any of the actions is an exclusion.
func HasExclusions(actions []string) bool {
	return slices.ContainsFunc(actions, func(text string) bool { _, _, ok := excluded(text); return ok })
}

// excludedWarnings returns a warning of actions that were added to a scope map, and that an exclusion
// among all of its actions takes away.
func excludedWarnings(name string, added, all []string) []api.Warning {
	for _, text := range all {
		pattern, action, ok := excluded(text)
		if !ok {
			continue
		}
		hole, err := auth.ParsePermissions([]string{auth.OnRepository + "/" + pattern + "/" + string(action)})
		if err != nil {
			continue
		}
		for _, text := range added {
			kind, repository, has, err := auth.ParseAction(text)
			if err != nil || kind != auth.OnRepository || has != action || !hole.AllowsRepository(repository, has) {
				continue
			}
			return []api.Warning{{
				Message: fmt.Sprintf("the scope map '%s' excludes '%s', so that %s allows nothing",
					name, pattern, text),
				Hint: fmt.Sprintf("ferry scope-map update -n %s --remove-repository '!%s' %s",
					name, pattern, action),
			}}
		}
	}
	return nil
}

// Grant returns the actions of the scope map name after a grant: they allow everything that have
// allows, and everything that more allows. An exclusion in have is removed if more allows everything
// that it covers; if more allows only a part of that, the grant is refused, because no list of actions
// can express the result. An exclusion in more is added unless have allows some of what it covers.
func Grant(name string, have, more []string) ([]string, error) {
	before, err := auth.ParsePermissions(have)
	if err != nil {
		return nil, err
	}
	granted, err := auth.ParsePermissions(more)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, text := range have {
		pattern, action, ok := excluded(text)
		if ok && granted.AllowsSome(pattern, action) {
			if !granted.AllowsRepository(pattern, action) {
				return nil, Conflict("the scope map '%s' excludes '%s', so no part of it can be added", name, pattern).
					WithHint("take the exclusion out first: ferry scope-map update -n %s --remove-repository '!%s' %s",
						name, pattern, action).Naming(KindScopeMap + "/" + name)
			}
			continue
		}
		all = append(all, text)
	}
	for _, text := range more {
		if pattern, action, ok := excluded(text); !ok || !before.AllowsSome(pattern, action) {
			all = append(all, text)
		}
	}
	return Union(nil, all), nil
}

// WithoutExclusions returns those of the actions that a program can be given that does not know
// exclusions: it may do less then, and never more. The exclusions are left out, and so is every action
// that one of them limits.
func WithoutExclusions(actions []string) []string {
	only := []string{} // the exclusions, as permissions
	for _, text := range actions {
		if pattern, action, ok := excluded(text); ok {
			only = append(only, auth.OnRepository+"/"+pattern+"/"+string(action))
		}
	}
	limited, err := auth.ParsePermissions(only)
	if err != nil {
		return []string{}
	}
	return slices.DeleteFunc(slices.Clone(actions), func(text string) bool {
		kind, name, action, err := auth.ParseAction(text)
		if err != nil {
			return true
		}
		pattern, isExclusion := auth.Excluded(name)
		return kind == auth.OnRepository && (isExclusion || limited.AllowsSome(pattern, action))
	})
}
