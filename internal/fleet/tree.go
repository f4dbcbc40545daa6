package fleet

import (
	"cmp"
	"slices"
	"strings"

	"ferry/internal/metadb"
)

// maxDepth is how many levels of connected registries there can be.
const maxDepth = 16

// A tree is all connected registries, by their names in lower case.
type tree map[string]metadb.ConnectedRegistry

func treeOf(rows []metadb.ConnectedRegistry) tree {
	t := tree{}
	for _, row := range rows {
		t[strings.ToLower(row.Name)] = row
	}
	return t
}

// ancestors returns the connected registries above one whose parent is
// given, the parent first.
func (t tree) ancestors(parent string) []metadb.ConnectedRegistry {
	var all []metadb.ConnectedRegistry
	for row, ok := t[strings.ToLower(parent)]; ok && len(all) <= maxDepth; row, ok = t[strings.ToLower(row.Parent)] {
		all = append(all, row)
	}
	return all
}

// children returns those right below name, by name; "" is the top.
func (t tree) children(name string) []metadb.ConnectedRegistry {
	var all []metadb.ConnectedRegistry
	for _, row := range t {
		parent := row.Parent
		if _, known := t[strings.ToLower(parent)]; !known {
			parent = "" // a connected registry does not know those above it
		}
		if strings.EqualFold(parent, name) {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, func(a, b metadb.ConnectedRegistry) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// below returns the descendants of name, each followed by its own.
func (t tree) below(name string) []metadb.ConnectedRegistry { return t.walk(name, 0) }

func (t tree) walk(name string, depth int) []metadb.ConnectedRegistry {
	if depth > maxDepth {
		return nil // rows that are each other's parents
	}
	var all []metadb.ConnectedRegistry
	for _, row := range t.children(name) {
		all = append(append(all, row), t.walk(row.Name, depth+1)...)
	}
	return all
}
