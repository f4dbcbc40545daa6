// Package api is the types of the management API, and nothing else: what it
// serves, and what the command line reads. docs/management-api.md describes it.
//
// Names, nesting and values are those of the reference, so that scripts
// written for it read them unchanged. Times are RFC 3339 in UTC. Ids are paths
// below the API's root.
package api

import "time"

// Root is the path of the management API.
const Root = "/api/v1"

// Succeeded is the provisioning state of every resource: a write is done when
// it is answered.
const Succeeded = "Succeeded"

// Tagged is the part of a resource that tells what it says from what it said
// before. It is a header, and not in the JSON.
type Tagged struct {
	ETag string `json:"-"`
}

// EntityTag returns the resource's entity tag.
func (t Tagged) EntityTag() string { return t.ETag }

// ScopeMapID returns the id of a scope map.
func ScopeMapID(name string) string { return "/scope-maps/" + name }

// TokenID returns the id of a token.
func TokenID(name string) string { return "/tokens/" + name }

// ConnectedRegistryID returns the id of a connected registry.
func ConnectedRegistryID(name string) string { return "/connected-registries/" + name }

// Text is s, or null if it is empty.
func Text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Time is t in UTC, or null if it is zero.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// List is all, which is a list even if it is nil.
func List(all []string) []string { return append([]string{}, all...) }

// SecondsLeft returns how long bytes take at a rate; null if nobody knows.
func SecondsLeft(bytes, perSecond int64) *int64 {
	if bytes <= 0 || perSecond <= 0 {
		return nil
	}
	seconds := (bytes + perSecond - 1) / perSecond
	return &seconds
}
