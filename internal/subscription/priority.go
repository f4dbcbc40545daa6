package subscription

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits on priorities.
const (
	maxPriorities     = 50  // how many there are
	maxPriorityLength = 512 // how long one is, in bytes
)

// A Priority is how soon a repository's content goes to a connected registry.
type Priority int

// The priorities, the first of which goes first. Urgent content also goes
// when the byte budget is spent.
const (
	Urgent Priority = iota
	High
	Normal
	Low
)

var priorityNames = []string{"urgent", "high", "normal", "low"}

// Priorities say which repositories' content goes first. The zero value gives
// every repository the normal one.
type Priorities struct {
	rules []priorityRule
}

type priorityRule struct {
	pattern  string
	priority Priority
}

// ParsePriorities reads priorities as "ops/*=urgent", of which the first that
// fits a repository counts; where none does, it is the normal one. A pattern
// is a repository's name, or the begin of one and a *.
func ParsePriorities(texts []string) (Priorities, error) {
	rules, err := parseAll("priority", "priorities", maxPriorities, texts, parsePriority)
	return Priorities{rules}, err
}

// repositoryCharacters are those that the name of a repository has.
const repositoryCharacters = "/-._0123456789abcdefghijklmnopqrstuvwxyz"

func parsePriority(text string) (priorityRule, error) {
	if len(text) > maxPriorityLength {
		return priorityRule{}, errors.New("it is too long")
	}
	pattern, name, ok := strings.Cut(text, "=")
	i := slices.Index(priorityNames, name)
	if !ok || i < 0 {
		return priorityRule{}, fmt.Errorf("want REPOSITORY=PRIORITY, as ops/*=urgent, with one of %s",
			strings.Join(priorityNames, ", "))
	}
	if stem := strings.TrimSuffix(pattern, "*"); pattern == "" || strings.Trim(stem, repositoryCharacters) != "" {
		return priorityRule{}, errors.New("want the name of a repository, or the begin of one and a *")
	}
	return priorityRule{pattern, Priority(i)}, nil
}

// Of returns the priority of a repository.
func (p Priorities) Of(repository string) Priority {
	for _, r := range p.rules {
		if Covers(r.pattern, repository) {
			return r.priority
		}
	}
	return Normal
}

// AnyUrgent reports whether a repository can be urgent.
func (p Priorities) AnyUrgent() bool {
	return slices.ContainsFunc(p.rules, func(r priorityRule) bool { return r.priority == Urgent })
}
