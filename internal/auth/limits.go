package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"ferry/internal/subscription"
)

// Limits restrict an operator to some repositories and some connected registries. The zero value
// restricts nothing. Limits that name only repositories allow no connected registry, and the other
// way round.
type Limits struct {
	limited      bool
	repositories []string   // names, "prefix/*" or "*"
	labels       [][]string // KEY=VALUE; a connected registry needs one label of each list
}

// Bounds on one set of limits.
const (
	maxLimits = 100
	maxLabel  = 400 // bytes
)

// ReadLimits returns the limits that name repositories, which may be "prefix/*" or "*", and labels
// KEY=VALUE of connected registries, of which one is enough. Without either there are no limits.
func ReadLimits(repositories, labels []string) (Limits, error) {
	if len(repositories)+len(labels) == 0 {
		return Limits{}, nil
	}
	if len(repositories)+len(labels) > maxLimits {
		return Limits{}, fmt.Errorf("%d limits are too many: at most %d are allowed", len(repositories)+len(labels),
			maxLimits)
	}
	l := Limits{limited: true, repositories: slices.Clone(repositories)}
	for _, pattern := range repositories {
		if err := CheckPattern(pattern); err != nil {
			return Limits{}, err
		}
	}
	for _, label := range labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" || value == "" || len(label) > maxLabel || strings.ContainsFunc(label, isNoLabel) {
			return Limits{}, fmt.Errorf("%.100q is not a label: want KEY=VALUE, such as group=baltic", label)
		}
	}
	if len(labels) > 0 {
		l.labels = [][]string{slices.Clone(labels)}
	}
	return l, nil
}

func isNoLabel(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

// Nothing are the limits that allow nothing.
func Nothing() Limits { return Limits{limited: true} }

// Any reports whether there are limits.
func (l Limits) Any() bool { return l.limited }

// Covers reports whether a repository is within the limits, or all repositories of a pattern are.
func (l Limits) Covers(pattern string) bool {
	return !l.limited || slices.ContainsFunc(l.repositories, func(allowed string) bool {
		return subscription.Covers(allowed, pattern)
	})
}

// HasRegistry reports whether a connected registry with the labels is within the limits.
func (l Limits) HasRegistry(labels map[string]string) bool {
	if !l.limited {
		return true
	}
	for _, some := range l.labels {
		if !slices.ContainsFunc(some, func(label string) bool {
			key, value, _ := strings.Cut(label, "=")
			got, ok := labels[key]
			return ok && got == value
		}) {
			return false
		}
	}
	return len(l.labels) > 0
}

// And returns the limits that allow what both l and m allow.
func (l Limits) And(m Limits) Limits {
	switch {
	case !m.limited:
		return l
	case !l.limited:
		return m
	}
	both := Limits{limited: true}
	for _, a := range l.repositories {
		for _, b := range m.repositories {
			switch {
			case subscription.Covers(a, b):
				both.repositories = append(both.repositories, b)
			case subscription.Covers(b, a):
				both.repositories = append(both.repositories, a)
			}
		}
	}
	if len(l.labels) > 0 && len(m.labels) > 0 {
		both.labels = slices.Concat(l.labels, m.labels)
	}
	return both
}

// CoversAll reports whether everything that m allows is within l, as far as the texts of the limits
// tell. A label is only known to be within the same label.
func (l Limits) CoversAll(m Limits) bool {
	if !l.limited || !m.limited {
		return !l.limited
	}
	for _, pattern := range m.repositories {
		if !l.Covers(pattern) {
			return false
		}
	}
	for _, some := range l.labels {
		if len(m.labels) > 0 && !slices.ContainsFunc(m.labels, func(narrower []string) bool {
			return !slices.ContainsFunc(narrower, func(label string) bool { return !slices.Contains(some, label) })
		}) {
			return false
		}
	}
	return len(m.labels) == 0 || len(l.labels) > 0
}

// Within returns the permissions on repositories that are within the limits, and none on gateways
// if there are limits.
func (p Permissions) Within(l Limits) Permissions {
	if !l.limited {
		return p
	}
	var within Permissions
	for _, r := range p.repositories {
		for _, allowed := range l.And(Limits{limited: true, repositories: []string{r.name}}).repositories {
			for _, action := range r.actions {
				within.repositories = addAction(within.repositories, allowed, action)
			}
		}
	}
	return within
}
