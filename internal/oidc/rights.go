package oidc

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"ferry/internal/auth"
)

// Limits on groups.
const (
	maxRules  = 200
	maxGroups = 1000 // of one person that are read
)

// A Rule gives the people in a group a role, perhaps within limits.
type Rule struct {
	Group        string
	Admin        bool
	Repositories []string
	Labels       []string
	limits       auth.Limits
}

// Rules are in the order in which they are tried: the first whose group a person is in counts.
type Rules []Rule

// ParseRules reads GROUP=admin or GROUP=reader, separated by semicolons, each perhaps with limits:
// GROUP=admin:team/*,group=baltic names repositories and, with =, labels of connected registries.
// The texts of spaces around them do not count.
func ParseRules(text string) (Rules, error) {
	var all Rules
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		rest, limits, limited := strings.Cut(part, ":")
		i := strings.LastIndex(rest, "=")
		if i <= 0 {
			return nil, fmt.Errorf("%.100q is not a group with its role: want such as ops=admin or "+
				"baltic=reader:team/*", part)
		}
		r := Rule{Group: strings.TrimSpace(rest[:i])}
		switch role := strings.TrimSpace(rest[i+1:]); role {
		case "admin":
			r.Admin = true
		case "reader":
		default:
			return nil, fmt.Errorf("%.20q is not a role: want admin or reader", role)
		}
		for limit := range strings.SplitSeq(limits, ",") {
			if limit = strings.TrimSpace(limit); strings.Contains(limit, "=") {
				r.Labels = append(r.Labels, limit)
			} else if limit != "" {
				r.Repositories = append(r.Repositories, limit)
			}
		}
		if limited && len(r.Labels)+len(r.Repositories) == 0 {
			return nil, fmt.Errorf("the group %.100q has a colon, and no limits behind it", r.Group)
		}
		var err error
		if r.limits, err = auth.ReadLimits(r.Repositories, r.Labels); err != nil {
			return nil, fmt.Errorf("group %.100q: %w", r.Group, err)
		}
		if all = append(all, r); len(all) > maxRules {
			return nil, fmt.Errorf("at most %d groups are allowed", maxRules)
		}
	}
	return all, nil
}

// A Person is somebody who logged in, with the rights of a rule.
type Person struct {
	Name         string   `json:"name"`
	Admin        bool     `json:"admin,omitempty"`
	Repositories []string `json:"repositories,omitempty"`
	Labels       []string `json:"labels,omitempty"`
}

// person returns a person in the groups; ok is false if no rule names any of them.
func (r Rules) person(name string, groups map[string]bool) (p *Person, ok bool) {
	for _, rule := range r {
		if groups[rule.Group] {
			return &Person{Name: name, Admin: rule.Admin, Repositories: rule.Repositories, Labels: rule.Labels}, true
		}
	}
	return nil, false
}

// namePrefix is the beginning of the names of people. No local operator has such a name.
const namePrefix = "oidc:"

// principal returns the operator that the person is.
func (p *Person) principal() *auth.Principal {
	limits, err := auth.ReadLimits(p.Repositories, p.Labels)
	if err != nil {
		limits = auth.Nothing() // cannot happen: ParseRules has checked them
	}
	all := auth.ReadEverything
	if p.Admin {
		all = auth.Everything
	}
	return &auth.Principal{Kind: auth.KindOperator, Name: namePrefix + p.Name, Admin: p.Admin, Limits: limits,
		Permissions: all.Within(limits)}
}

// groupsIn returns the groups in a claim, which is a text or a list of texts.
func groupsIn(claim any) map[string]bool {
	groups := map[string]bool{}
	switch c := claim.(type) {
	case string:
		groups[c] = true
	case []any:
		for _, g := range c[:min(len(c), maxGroups)] {
			if text, ok := g.(string); ok {
				groups[text] = true
			}
		}
	}
	delete(groups, "")
	return groups
}

func notInName(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

// A boolean is one that some providers send as a text.
type boolean bool

// UnmarshalJSON implements [json.Unmarshaler]. Any other value is false.
func (b *boolean) UnmarshalJSON(text []byte) error {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	*b = v == true || v == "true"
	return nil
}
