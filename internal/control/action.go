package control

import (
	"slices"
	"strings"

	"ferry/internal/auth"
)

// Limits on a scope map: the number of actions on repositories, as in the reference, and on
// gateways, which is four for each descendant of a connected registry.
const (
	maxPermissions        = 500
	maxGatewayPermissions = 4000
)

// Normalize checks actions and returns them in the form in which a scope map stores them: verbs in
// lower case, no duplicates.
func Normalize(actions []string) ([]string, error) {
	var all []string
	for _, text := range actions {
		kind, name, action, err := auth.ParseAction(text)
		if err != nil {
			return nil, Invalid("%v", err)
		}
		all = append(all, kind+"/"+name+"/"+string(action))
	}
	return Union(nil, all), nil
}

// Union returns the values of a and those of b that a lacks, ignoring case.
func Union(a, b []string) []string {
	had := map[string]bool{}
	all := make([]string, 0, len(a)+len(b))
	for _, v := range slices.Concat(a, b) {
		if fold := strings.ToLower(v); !had[fold] {
			had[fold] = true
			all = append(all, v)
		}
	}
	return all
}

// Without returns the values of a that are not in b, ignoring case.
func Without(a, b []string) []string {
	gone := map[string]bool{}
	for _, v := range b {
		gone[strings.ToLower(v)] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(v string) bool { return gone[strings.ToLower(v)] })
}

// OnRepositories returns the actions on repositories.
func OnRepositories(actions []string) []string {
	all := []string{}
	for _, a := range actions {
		if strings.HasPrefix(a, auth.OnRepository+"/") {
			all = append(all, a)
		}
	}
	return all
}

// checkCount returns an error if a scope map would have too many actions.
func checkCount(name string, actions []string) error {
	on := len(OnRepositories(actions))
	if on > maxPermissions {
		return Invalid("the scope map '%s' would have %d permissions on repositories: at most %d are allowed", name, on,
			maxPermissions).
			WithHint("name many repositories at once, such as team/* or *")
	}
	if n := len(actions) - on; n > maxGatewayPermissions {
		return Invalid("the scope map '%s' would have %d permissions on gateways: at most %d are allowed", name, n,
			maxGatewayPermissions)
	}
	return nil
}
