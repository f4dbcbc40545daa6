package auth

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ferry/internal/oci"
	"ferry/internal/subscription"
)

// Permissions are the parsed actions of a scope map. They are additive: an action is allowed if any
// of them allows it.
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

// Everything has the rights on repositories of an operator with the role admin.
var Everything = Permissions{repositories: []permission{{"*", repositoryActions}}}

// ReadEverything has the rights on repositories of an operator with the role reader.
var ReadEverything = Permissions{repositories: []permission{{"*", []Action{ContentRead, MetadataRead}}}}

var (
	repositoryActions = []Action{ContentRead, ContentWrite, ContentDelete, MetadataRead, MetadataWrite}
	gatewayActions    = []Action{ConfigRead, ConfigWrite, MessageRead, MessageWrite}
)

// The kinds of object that an action is on.
const (
	OnRepository = "repositories"
	OnGateway    = "gateway"
)

// ParseAction parses an action of a scope map, such as "repositories/<name>/content/read" or
// "gateway/<name>/message/write". A repository may be "prefix/*" or "*"; a star anywhere else is an
// error. The kind is [OnRepository] or [OnGateway]. If the name is wrong, the error begins
// with the fault and ends with the action: the user may have typed only the name.
func ParseAction(text string) (kind, name string, action Action, err error) {
	bad := func(err error) (string, string, Action, error) {
		return "", "", "", fmt.Errorf("action %.300q: %w", text, err)
	}
	badName := func(err error) (string, string, Action, error) {
		return "", "", "", fmt.Errorf("%w (in the action %.300q)", err, text)
	}
	kind, rest, _ := strings.Cut(text, "/")
	if kind != OnRepository && kind != OnGateway {
		return bad(errors.New("want repositories/<name>/<action> or gateway/<name>/<action>"))
	}
	if name, action, err = splitAction(rest); err != nil {
		return bad(err)
	}
	if kind == OnGateway {
		if err := CheckGatewayName(name); err != nil {
			return badName(err)
		}
		if !slices.Contains(gatewayActions, action) {
			return bad(fmt.Errorf("%.100s is not an action on a gateway (want one of %s)", action,
				join(gatewayActions)))
		}
		return kind, name, action, nil
	}
	if err := CheckPattern(name); err != nil {
		return badName(err)
	}
	if !slices.Contains(repositoryActions, action) {
		return bad(fmt.Errorf("%.100s is not an action on a repository (want one of %s)", action,
			join(repositoryActions)))
	}
	return kind, name, action, nil
}

var gatewayName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckGatewayName returns an error unless name is that of a connected registry, in upper or
// lower case.
func CheckGatewayName(name string) error {
	if gatewayName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%.100q is not the name of a connected registry: want letters, digits, - and _", name)
}

// ParsePermissions parses actions as [ParseAction] does.
func ParsePermissions(actions []string) (Permissions, error) {
	var p Permissions
	for _, text := range actions {
		kind, name, action, err := ParseAction(text)
		if err != nil {
			return Permissions{}, err
		}
		if kind == OnGateway {
			p.gateways = addAction(p.gateways, strings.ToLower(name), action)
		} else {
			p.repositories = addAction(p.repositories, name, action)
		}
	}
	return p, nil
}

// WithoutGateways returns the permissions on repositories.
func (p Permissions) WithoutGateways() Permissions {
	return Permissions{repositories: p.repositories}
}

// ToPull returns the permissions to read content and metadata of repositories.
func (p Permissions) ToPull() (pull Permissions) {
	for _, r := range p.repositories {
		for _, action := range r.actions {
			if action == ContentRead || action == MetadataRead {
				pull.repositories = addAction(pull.repositories, r.name, action)
			}
		}
	}
	return pull
}

// And returns the permissions that p and q have together.
func (p Permissions) And(q Permissions) Permissions {
	switch {
	case len(p.repositories)+len(p.gateways) == 0:
		return q
	case len(q.repositories)+len(q.gateways) == 0:
		return p
	}
	return Permissions{
		repositories: slices.Concat(p.repositories, q.repositories), gateways: slices.Concat(p.gateways, q.gateways),
	}
}

// AllowsNothing reports whether there are no permissions.
func (p Permissions) AllowsNothing() bool { return len(p.repositories)+len(p.gateways) == 0 }

// AllowsRepository reports whether action is allowed on the repository name.
func (p Permissions) AllowsRepository(name string, action Action) bool {
	return allows(p.repositories, name, action)
}

// Patterns returns the names, "prefix/*" or "*" of the repositories on which action is allowed.
func (p Permissions) Patterns(action Action) (all []string) {
	for _, r := range p.repositories {
		if slices.Contains(r.actions, action) {
			all = append(all, r.name)
		}
	}
	return all
}

// AllowsGateway reports whether action is allowed on the gateway of the connected registry name, in
// upper or lower case.
func (p Permissions) AllowsGateway(name string, action Action) bool {
	return allows(p.gateways, strings.ToLower(name), action)
}

// AllowsAnyGateway reports whether action is allowed on the gateway of any connected
// registry.
func (p Permissions) AllowsAnyGateway(action Action) bool {
	return slices.ContainsFunc(p.gateways, func(g permission) bool { return slices.Contains(g.actions, action) })
}

func allows(all []permission, name string, action Action) bool {
	for _, p := range all {
		if subscription.Covers(p.name, name) && slices.Contains(p.actions, action) {
			return true
		}
	}
	return false
}

// CheckPattern returns an error unless pattern is the name of a repository, "prefix/*" or "*".
func CheckPattern(pattern string) error {
	if strings.TrimSpace(pattern) == "" {
		return fmt.Errorf("the name of a repository is blank: %.100q", pattern)
	}
	if pattern == "*" {
		return nil
	}
	name := strings.TrimSuffix(pattern, "/*")
	if strings.Contains(name, "*") {
		return fmt.Errorf("repository %.100q: a star is allowed only alone or at the end, such as in team/*", pattern)
	}
	if err := oci.CheckRepository(name); err != nil {
		return fmt.Errorf("%s: want lower-case letters and digits, with . _ - or / between them",
			oci.AsError(err).Message) // the code belongs to the registry API
	}
	return nil
}

var errNoAction = errors.New("want a name and noun/verb at the end, such as content/read")

// splitAction splits "<name>/<noun>/<verb>"; the name may contain slashes.
func splitAction(s string) (name string, action Action, err error) {
	verb := strings.LastIndex(s, "/")
	if verb < 0 {
		return "", "", errNoAction
	}
	noun := strings.LastIndex(s[:verb], "/")
	if noun <= 0 {
		return "", "", errNoAction
	}
	return s[:noun], Action(strings.ToLower(s[noun+1:])), nil
}

func addAction(all []permission, name string, action Action) []permission {
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
