package control

import (
	"slices"
	"strings"

	"ferry/internal/auth"
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
func (s *Service) checkCount(name string, actions []string) error {
	on := len(OnRepositories(actions))
	if on > s.maxima.Permissions {
		return Invalid("the scope map '%s' would have %d permissions on repositories: at most %d are allowed", name, on,
			s.maxima.Permissions).
			WithHint("name many repositories at once, such as team/* or *; or raise permissions in --limits of " +
				"ferry serve")
	}
	if n := len(actions) - on; n > s.maxima.GatewayPermissions {
		return Invalid("the scope map '%s' would have %d permissions on gateways: at most %d are allowed", name, n,
			s.maxima.GatewayPermissions).
			WithHint("raise gateway-permissions in --limits of ferry serve")
	}
	return nil
}

// tooMany is the refusal of another resource. The setting is the name of its maximum.
func tooMany(nouns string, n int, setting string) *Error {
	return Conflict("there are %d %s already, which is the most", n, nouns).
		WithHint("raise %s in --limits of ferry serve", setting)
}
