package auth

import (
	"fmt"
	"slices"
	"strings"

	"ferry/internal/oci"
)

// Permissions are the parsed actions of a scope map. They are additive: what
// any one of them allows is allowed.
type Permissions struct {
	repositories []permission
	gateways     []permission
}

// A permission allows actions on one name, on every name under "prefix/", or
// on every name.
type permission struct {
	name    string // "a/b", "a/*" or "*"
	actions []Action
}

// Everything is what an operator with the role admin may do with repositories.
var Everything = Permissions{repositories: []permission{{"*", repositoryActions}}}

// ReadEverything is what an operator with the role reader may do with repositories.
var ReadEverything = Permissions{repositories: []permission{{"*", []Action{ContentRead, MetadataRead}}}}

var (
	repositoryActions = []Action{ContentRead, ContentWrite, ContentDelete, MetadataRead, MetadataWrite}
	gatewayActions    = []Action{ConfigRead, ConfigWrite, MessageRead, MessageWrite}
)

// ParsePermissions reads actions as a scope map holds them:
// "repositories/<name>/content/read", "gateway/<name>/message/write". A
// repository may be "prefix/*" or "*"; a star anywhere else is an error.
func ParsePermissions(actions []string) (Permissions, error) {
	var p Permissions
	for _, text := range actions {
		kind, rest, _ := strings.Cut(text, "/")
		name, action, err := splitAction(rest)
		if err != nil {
			return Permissions{}, fmt.Errorf("action %q: %w", text, err)
		}
		switch kind {
		case "repositories":
			if err := checkPattern(name); err != nil {
				return Permissions{}, fmt.Errorf("action %q: %w", text, err)
			}
			if !slices.Contains(repositoryActions, action) {
				return Permissions{}, fmt.Errorf("action %q: %s is not an action on a repository (want one of %s)", text, action, join(repositoryActions))
			}
			p.repositories = grant(p.repositories, name, action)
		case "gateway":
			if !slices.Contains(gatewayActions, action) {
				return Permissions{}, fmt.Errorf("action %q: %s is not an action on a gateway (want one of %s)", text, action, join(gatewayActions))
			}
			p.gateways = grant(p.gateways, strings.ToLower(name), action)
		default:
			return Permissions{}, fmt.Errorf("action %q: want repositories/<name>/<action> or gateway/<name>/<action>", text)
		}
	}
	return p, nil
}

// AllowsRepository reports whether action is allowed on the repository name.
func (p Permissions) AllowsRepository(name string, action Action) bool {
	return allows(p.repositories, name, action)
}

// AllowsGateway reports whether action is allowed on the gateway of the
// connected registry name, whose case does not matter.
func (p Permissions) AllowsGateway(name string, action Action) bool {
	return allows(p.gateways, strings.ToLower(name), action)
}

// AllowsEveryRepository reports whether action is allowed on "*".
func (p Permissions) AllowsEveryRepository(action Action) bool {
	for _, r := range p.repositories {
		if r.name == "*" && slices.Contains(r.actions, action) {
			return true
		}
	}
	return false
}

func allows(all []permission, name string, action Action) bool {
	for _, p := range all {
		if matches(p.name, name) && slices.Contains(p.actions, action) {
			return true
		}
	}
	return false
}

// matches reports whether a scope map's name covers a repository.
func matches(pattern, name string) bool {
	if pattern == "*" || pattern == name {
		return true
	}
	prefix, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(name, prefix)
}

// checkPattern accepts a repository's name, "prefix/*" and "*".
func checkPattern(pattern string) error {
	if pattern == "*" {
		return nil
	}
	name := strings.TrimSuffix(pattern, "/*")
	if strings.Contains(name, "*") {
		return fmt.Errorf("repository %q: a star is allowed only alone or at the end, as in team/*", pattern)
	}
	return oci.CheckRepository(name)
}

// splitAction splits "<name>/<noun>/<verb>", whose name may hold slashes.
func splitAction(s string) (name string, action Action, err error) {
	verb := strings.LastIndex(s, "/")
	if verb < 0 {
		return "", "", fmt.Errorf("it names no action")
	}
	noun := strings.LastIndex(s[:verb], "/")
	if noun <= 0 {
		return "", "", fmt.Errorf("it names no object")
	}
	return s[:noun], Action(strings.ToLower(s[noun+1:])), nil
}

func grant(all []permission, name string, action Action) []permission {
	for i := range all {
		if all[i].name == name {
			if !slices.Contains(all[i].actions, action) {
				all[i].actions = append(all[i].actions, action)
			}
			return all
		}
	}
	return append(all, permission{name, []Action{action}})
}

func join(actions []Action) string {
	texts := make([]string, len(actions))
	for i, a := range actions {
		texts[i] = string(a)
	}
	return strings.Join(texts, ", ")
}
