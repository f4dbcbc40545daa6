package subscription

import "strings"

// Covers reports whether a pattern covers a name: it is the name, or the
// begin of it and a *.
func Covers(pattern, name string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == name || open && strings.HasPrefix(name, prefix)
}
