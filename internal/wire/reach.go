package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// A Reach is what of its parent's content is for a connected registry.
type Reach struct {
	Permissions []string `json:"permissions,omitempty"`
	TagFilters  []string `json:"tagFilters,omitempty"`
	KeepLast    int      `json:"keepLast,omitempty"`
	Platforms   []string `json:"platforms,omitempty"`
}

// Reach returns what of its parent's content is for r.
func (r ConnectedRegistry) Reach() Reach {
	return Reach{Permissions: r.Permissions, TagFilters: r.TagFilters, KeepLast: r.KeepLast, Platforms: r.Platforms}
}

// ID returns what tells r from others, in 16 characters: the same for lists
// that have the same in another order.
func (r Reach) ID() string {
	text, err := json.Marshal(Reach{sorted(r.Permissions), sorted(r.TagFilters), r.KeepLast, sorted(r.Platforms)})
	if err != nil {
		panic(err) // it has strings and a number
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// SamePlatforms reports whether r and other have the same of each index.
func (r Reach) SamePlatforms(other Reach) bool {
	return slices.Equal(sorted(r.Platforms), sorted(other.Platforms))
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
