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

// Permissions are the parsed actions of scope maps. They are additive: an action is allowed if any
// of them allows it.
type Permissions struct {
	repositories []permission
	gateways     []permission
}

// A permission allows actions on one name, on every name under "prefix/", or on every name, except
// what the exclusions of its scope map cover.
type permission struct {
	name    string // "a/b", "a/*" or "*"
	actions []Action
	except  []permission
}

// Everything has the rights on repositories of an operator with the role admin.
var Everything = Permissions{repositories: []permission{{name: "*", actions: repositoryActions}}}

// ReadEverything has the rights on repositories of an operator with the role reader.
var ReadEverything = Permissions{
	repositories: []permission{{name: "*", actions: []Action{ContentRead, MetadataRead}}},
}

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
// error. "!" before the name, which the name keeps, makes the action an exclusion; see [Excluded]. The
// kind is [OnRepository] or [OnGateway]. If the name is wrong, the error begins with the fault and
// ends with the action: the user may have typed only the name.
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
	if err := CheckRule(name); err != nil {
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

// ParsePermissions parses the actions of one scope map as [ParseAction] does.
func ParsePermissions(actions []string) (Permissions, error) {
	var p Permissions
	var except []permission
	for _, text := range actions {
		kind, name, action, err := ParseAction(text)
		if err != nil {
			return Permissions{}, err
		}
		pattern, excluded := Excluded(name)
		switch {
		case kind == OnGateway:
			p.gateways = addAction(p.gateways, strings.ToLower(name), action)
		case excluded:
			except = addAction(except, pattern, action)
		default:
			p.repositories = addAction(p.repositories, name, action)
		}
	}
	for i := range p.repositories {
		p.repositories[i].except = except
	}
	return p, nil
}

// Excluded returns the pattern after the "!" of an exclusion, and whether name is an exclusion. An
// exclusion takes its action away from all permissions of its scope map, whatever their order.
func Excluded(name string) (pattern string, excluded bool) { return strings.CutPrefix(name, "!") }

// WithoutGateways returns the permissions on repositories.
func (p Permissions) WithoutGateways() Permissions {
	return Permissions{repositories: p.repositories}
}

// ToPull returns the permissions to read content and metadata of repositories.
func (p Permissions) ToPull() (pull Permissions) {
	for _, r := range p.repositories {
		for _, action := range r.actions {
			if action == ContentRead || action == MetadataRead {
				pull.repositories = append(pull.repositories, permission{r.name, []Action{action}, r.except})
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

// AllowsRepository reports whether action is allowed on the repository name. For a pattern, it reports
// whether the action is allowed on everything that the pattern covers, apart from exclusions that
// cover only a part of that.
func (p Permissions) AllowsRepository(name string, action Action) bool {
	return allows(p.repositories, name, action)
}

// AllowsSome reports whether action is allowed on anything that a pattern covers.
func (p Permissions) AllowsSome(pattern string, action Action) bool {
	return slices.ContainsFunc(p.repositories, func(r permission) bool {
		both := pattern // what both patterns cover
		if subscription.Covers(pattern, r.name) {
			both = r.name
		}
		return r.allows(both, action)
	})
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
		if p.allows(name, action) {
			return true
		}
	}
	return false
}

// allows reports whether the permission covers action on a name, and no exclusion does.
func (p permission) allows(name string, action Action) bool {
	return subscription.Covers(p.name, name) && slices.Contains(p.actions, action) && !allows(p.except, name, action)
}

// CheckRule returns an error unless rule is a pattern as for [CheckPattern], or an exclusion: a
// pattern other than "*" after "!".
func CheckRule(rule string) error {
	pattern, excluded := Excluded(rule)
	if excluded && pattern == "*" {
		return errors.New(`"!*" excludes every repository: leave the permissions out instead`)
	}
	return CheckPattern(pattern)
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
	return append(all, permission{name: name, actions: []Action{action}})
}

func join(actions []Action) string {
	texts := make([]string, len(actions))
	for i, a := range actions {
		texts[i] = string(a)
	}
	return strings.Join(texts, ", ")
}
