package subscription

import (
	"fmt"
	"strings"
)

// parseAll reads texts, of which at most limit are allowed, and names one that
// cannot be read: what is one of them, whats several.
func parseAll[T any](what, whats string, limit int, texts []string, parse func(string) (T, error)) ([]T, error) {
	if len(texts) > limit {
		return nil, fmt.Errorf("%d %s are too many: at most %d are allowed", len(texts), whats, limit)
	}
	var all []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s %.100q: %w", what, text, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// Covers reports whether a pattern covers a name: it is the name, or the
// begin of it and a *.
func Covers(pattern, name string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == name || open && strings.HasPrefix(name, prefix)
}
