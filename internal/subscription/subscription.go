package subscription

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// A Subscription selects the part of its parent's content that a connected registry gets, as
// written by its operator.
type Subscription struct {
	Permissions []string `json:"permissions,omitempty"` // actions on repositories
	TagFilters  []string `json:"tagFilters,omitempty"`
	KeepLast    int      `json:"keepLast,omitempty"`
	Platforms   []string `json:"platforms,omitempty"`
}

// ID returns 16 characters that identify s among all subscriptions. The order of its lists does
// not matter.
func (s Subscription) ID() string {
	text, err := json.Marshal(Subscription{sorted(s.Permissions), sorted(s.TagFilters), s.KeepLast,
		sorted(s.Platforms)})
	if err != nil {
		panic(err) // strings and a number can always be marshalled
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// A Filter selects a part of a repository.
type Filter struct {
	Tags      Tags
	Platforms Platforms
}

// Filter returns the filter of s, which applies to each repository that s may read.
func (s Subscription) Filter() (f Filter, err error) {
	if f.Tags, err = ParseTags(s.TagFilters, s.KeepLast); err == nil {
		f.Platforms, err = ParsePlatforms(s.Platforms)
	}
	if err != nil {
		return Filter{}, fmt.Errorf("read subscription: %w", err)
	}
	return f, nil
}
