package events

import (
	"slices"
	"strings"

	"ferry/internal/metadb"
)

// A Selection says which events a subscriber gets.
type Selection struct {
	Types      []string // none is all
	Scope      Patterns // of tags and manifests; none is all
	Registries []string // connected registries, in any case; none is all and this instance
	After      int64    // only events with a higher number
}

// ThisInstance in [Selection.Registries] selects the events of the root itself.
const ThisInstance = metadb.ThisInstance

// selects reports whether the subscriber gets the event. self is the name of this instance.
func (s Selection) selects(e metadb.Event) bool {
	if e.ID != 0 && e.ID <= s.After || len(s.Types) > 0 && !slices.Contains(s.Types, e.Type) {
		return false
	}
	if len(s.Scope) > 0 && !s.Scope.Match(e) {
		return false
	}
	return len(s.Registries) == 0 || slices.ContainsFunc(s.Registries, func(name string) bool {
		return strings.EqualFold(name, e.Registry) || name == ThisInstance && e.Registry == ""
	})
}
