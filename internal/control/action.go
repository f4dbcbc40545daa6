package control

import (
	"slices"
	"strings"

	"ferry/internal/auth"
)

// Limits on a scope map: how many actions on repositories it has at most, as
// in the reference, and on gateways, which is four for each descendant of a
// connected registry.
const (
	maxPermissions        = 500
	maxGatewayPermissions = 4000
)

// The modes of a connected registry.
const (
	readOnly  = "ReadOnly"
	readWrite = "ReadWrite"
)

// repositoryActions returns the scope map's actions for repositories that a
// connected registry syncs.
func repositoryActions(repositories []string) []string {
	var all []string
	for _, r := range repositories {
		for _, a := range []auth.Action{auth.ContentRead, auth.MetadataRead} {
			all = append(all, auth.OnRepository+"/"+r+"/"+string(a))
		}
	}
	return all
}

// gatewayActions returns the scope map's actions for the gateway of a
// connected registry, whose name is in lower case there.
func gatewayActions(name string) []string {
	var all []string
	for _, a := range []auth.Action{auth.ConfigRead, auth.ConfigWrite, auth.MessageRead, auth.MessageWrite} {
		all = append(all, auth.OnGateway+"/"+strings.ToLower(name)+"/"+string(a))
	}
	return all
}

// normalize returns actions in the form that a scope map keeps: valid, the
// verbs in lower case, each once.
func normalize(actions []string) ([]string, error) {
	var all []string
	for _, text := range actions {
		kind, name, action, err := auth.ParseAction(text)
		if err != nil {
			return nil, invalid("%v", err)
		}
		all = append(all, kind+"/"+name+"/"+string(action))
	}
	return unite(nil, all), nil
}

// unite returns a with those of b that it lacks. Case does not matter.
func unite(a, b []string) []string {
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

// asList returns all as a list, also where there are none.
func asList(all []string) []string { return append([]string{}, all...) }

// without returns a as far as it is not in b. Case does not matter.
func without(a, b []string) []string {
	gone := map[string]bool{}
	for _, v := range b {
		gone[strings.ToLower(v)] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(v string) bool { return gone[strings.ToLower(v)] })
}

// onRepositories returns the actions that are on repositories.
func onRepositories(actions []string) []string {
	all := []string{}
	for _, a := range actions {
		if strings.HasPrefix(a, auth.OnRepository+"/") {
			all = append(all, a)
		}
	}
	return all
}

// checkCount returns an error when a scope map would have too many actions.
func checkCount(name string, actions []string) error {
	on := len(onRepositories(actions))
	if on > maxPermissions {
		return invalid("the scope map '%s' would have %d permissions on repositories: at most %d are allowed", name, on, maxPermissions).
			hint("name many repositories at once, as in team/* or *")
	}
	if n := len(actions) - on; n > maxGatewayPermissions {
		return invalid("the scope map '%s' would have %d permissions on gateways: at most %d are allowed", name, n, maxGatewayPermissions)
	}
	return nil
}
