package events

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// maxPattern is the longest pattern, in bytes.
const maxPattern = 512

var tagPattern = regexp.MustCompile(`^(\*|[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)

// A Pattern selects events, in the form of the reference:
//
//	name [":" tag] ["@" digest] ":" action
//
// Any part may be *, and a name may end in /*. The action is one of [Types], or * for all of them.
type Pattern struct {
	name, tag, digest string // "" in tag and digest is none
	action            string
}

// ParsePattern parses a pattern.
func ParsePattern(text string) (Pattern, error) {
	if len(text) > maxPattern {
		return Pattern{}, errors.New("it is too long")
	}
	end := strings.LastIndex(text, ":")
	if end < 0 {
		return Pattern{}, errors.New("it has no action")
	}
	p, err := ParseScope(text[:end])
	if err != nil {
		return Pattern{}, err
	}
	if p.action = text[end+1:]; p.action != anything && !slices.Contains(Types(), p.action) {
		return Pattern{}, errors.New("its action is not push, delete or *, nor one of Ferry's own: " +
			"complete, failed, first_pull, dropped")
	}
	return p, nil
}

// ParseScope parses a pattern without an action. It selects events of every type.
func ParseScope(text string) (Pattern, error) {
	if len(text) > maxPattern {
		return Pattern{}, errors.New("it is too long")
	}
	p := Pattern{action: anything}
	artifact, digest, hasDigest := strings.Cut(text, "@")
	if hasDigest && digest != anything {
		if _, err := oci.ParseDigest(digest); err != nil {
			return Pattern{}, errors.New("its digest is not valid")
		}
	}
	name, tag, hasTag := strings.Cut(artifact, ":")
	if hasTag && !tagPattern.MatchString(tag) {
		return Pattern{}, errors.New("its tag is not valid")
	}
	if name != anything && oci.CheckRepository(strings.TrimSuffix(name, "/*")) != nil {
		return Pattern{}, errors.New("its name is not a repository, team/* or *")
	}
	p.name, p.tag, p.digest = name, tag, digest
	return p, nil
}

// anything matches everything in its part of a pattern.
const anything = "*"

// Matches reports whether the pattern selects an event. A pattern with a tag selects events of
// tags. A pattern with @* selects events of manifests without a tag, and one with a digest all
// events of that manifest. [Dropped] concerns everything, so every pattern with its action selects it.
func (p Pattern) Matches(e metadb.Event) bool {
	if p.action != anything && p.action != e.Type {
		return false
	}
	if e.Type == Dropped {
		return true
	}
	prefix, below := strings.CutSuffix(p.name, anything)
	if p.name != e.Repository && !(below && strings.HasPrefix(e.Repository, prefix)) {
		return false
	}
	if p.tag != "" && (e.Tag == "" || p.tag != anything && p.tag != e.Tag) {
		return false
	}
	switch p.digest {
	case "":
		return true
	case anything:
		return p.tag != "" || e.Tag == ""
	}
	return p.digest == e.Digest
}

// A Patterns selects the events that any of its patterns selects.
type Patterns []Pattern

// ParsePatterns parses patterns. It leaves out those that it cannot parse, because a newer root may
// know more forms.
func ParsePatterns(texts []string) (all Patterns) {
	for _, text := range texts {
		if p, err := ParsePattern(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// Match reports whether any pattern selects the event.
func (all Patterns) Match(e metadb.Event) bool {
	return slices.ContainsFunc(all, func(p Pattern) bool { return p.Matches(e) })
}
