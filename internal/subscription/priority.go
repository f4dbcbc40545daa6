package subscription

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits on priorities.
const (
	maxPriorities     = 50  // per list
	maxPriorityLength = 512 // in bytes
)

// A Priority says how soon a repository's content is synced.
type Priority int

// The priorities, most urgent first. Urgent content is synced even if the byte budget is spent.
const (
	Urgent Priority = iota
	High
	Normal
	Low
)

var priorityNames = []string{"urgent", "high", "normal", "low"}

// Priorities give each repository a priority. With the zero value, all are Normal.
type Priorities struct {
	rules []priorityRule
}

type priorityRule struct {
	pattern  string
	priority Priority
}

// ParsePriorities reads rules such as "ops/*=urgent". The first rule that matches a repository
// counts; without one, the priority is Normal. A pattern is the name of a repository, or a
// prefix followed by a *.
func ParsePriorities(texts []string) (Priorities, error) {
	rules, err := parseAll("priority", "priorities", maxPriorities, texts, parsePriority)
	return Priorities{rules}, err
}

// repositoryCharacters are the characters of names of repositories.
const repositoryCharacters = "/-._0123456789abcdefghijklmnopqrstuvwxyz"

func parsePriority(text string) (priorityRule, error) {
	if len(text) > maxPriorityLength {
		return priorityRule{}, errors.New("it is too long")
	}
	pattern, name, ok := strings.Cut(text, "=")
	i := slices.Index(priorityNames, name)
	if !ok || i < 0 {
		return priorityRule{}, fmt.Errorf("want REPOSITORY=PRIORITY, such as ops/*=urgent, with one of %s",
			strings.Join(priorityNames, ", "))
	}
	if prefix := strings.TrimSuffix(pattern, "*"); pattern == "" || strings.Trim(prefix, repositoryCharacters) != "" {
		return priorityRule{}, errors.New("want the name of a repository, or a prefix of names and a *")
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

// AnyUrgent reports whether any repository may be urgent.
func (p Priorities) AnyUrgent() bool {
	return slices.ContainsFunc(p.rules, func(r priorityRule) bool { return r.priority == Urgent })
}
