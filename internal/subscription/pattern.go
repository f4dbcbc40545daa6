package subscription

import (
	"fmt"
	"strings"
)

// parseAll parses each text; at most limit are allowed. Errors name the text, with the
// nouns for one and several of its kind.
func parseAll[T any](singular, plural string, limit int, texts []string, parse func(string) (T, error)) ([]T, error) {
	if len(texts) > limit {
		return nil, fmt.Errorf("%d %s are too many: at most %d are allowed", len(texts), plural, limit)
	}
	var all []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s %.100q: %w", singular, text, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// Covers reports whether a pattern covers a name: the pattern is the name, or a prefix of it
// followed by a *.
func Covers(pattern, name string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	return pattern == name || isPrefix && strings.HasPrefix(name, prefix)
}
