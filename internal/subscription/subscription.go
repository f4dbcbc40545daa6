package subscription

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// A Subscription is which part of its parent's content a connected registry
// gets, as its operator wrote it.
type Subscription struct {
	Permissions []string `json:"permissions,omitempty"` // actions on repositories
	TagFilters  []string `json:"tagFilters,omitempty"`
	KeepLast    int      `json:"keepLast,omitempty"`
	Platforms   []string `json:"platforms,omitempty"`
}

// ID tells s from every other subscription, in 16 characters. Subscriptions
// whose lists differ only in their order have the same.
func (s Subscription) ID() string {
	text, err := json.Marshal(Subscription{sorted(s.Permissions), sorted(s.TagFilters), s.KeepLast,
		sorted(s.Platforms)})
	if err != nil {
		panic(err) // it has strings and a number
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// A Filter is which part of one repository a subscription selects.
type Filter struct {
	Tags      Tags
	Platforms Platforms
}

// Filter returns what s selects of each repository that it may read.
func (s Subscription) Filter() (f Filter, err error) {
	if f.Tags, err = ParseTags(s.TagFilters, s.KeepLast); err == nil {
		f.Platforms, err = ParsePlatforms(s.Platforms)
	}
	if err != nil {
		return Filter{}, fmt.Errorf("read subscription: %w", err)
	}
	return f, nil
}
