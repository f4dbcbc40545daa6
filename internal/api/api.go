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

// Tagged is the part of a resource that tells its present content from earlier content, and, in
// the answer to a write, which connected registries have not heard of the write.
type Tagged struct {
	ETag string `json:"-"` // it is a header
	WriteResult
}

// EntityTag returns the resource's entity tag.
func (t Tagged) EntityTag() string { return t.ETag }

// WriteResult is the part of the answer to a write that says which connected registries have
// not heard of it.
type WriteResult struct {
	Unheard *Unheard `json:"unheard,omitempty" doc:"In the answer to a write: the connected registries that it concerns and that have not heard of it. Not there where all hear of it at once."`
}

// SetUnheard sets the connected registries that have not heard of the write; nil is none.
func (t *WriteResult) SetUnheard(u *Unheard) { t.Unheard = u }

// An Unheard is the connected registries that have not heard of a write.
type Unheard struct {
	Count      int               `json:"count" doc:"How many there are."`
	Registries []UnheardRegistry `json:"registries" nullable:"false" doc:"The first twenty, those that hear of it last first."`
}

// An UnheardRegistry is a connected registry that has not heard of a write.
type UnheardRegistry struct {
	Name         string     `json:"name"`
	ExpectedTime *time.Time `json:"expectedTime" doc:"When it is expected to, as its sync window and those on the way to it open; null where nobody knows: it should have been heard of, or cannot log in."`
}

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

// A ByteProgress is how far a sync, an import or a mirror rule's run is.
type ByteProgress struct {
	BytesTotal     int64  `json:"bytesTotal" doc:"Of the layers that are or were missing for the items that it has planned."`
	BytesDone      int64  `json:"bytesDone" doc:"Of these, what is here."`
	ItemsUnplanned int    `json:"itemsUnplanned" doc:"How many missing items bytesTotal does not have, because their sizes are not known yet. Unless it is 0, bytesTotal is the least that it can be."`
	BytesPerSecond int64  `json:"bytesPerSecond" doc:"Over the last seconds; 0 unless it runs."`
	EtaSeconds     *int64 `json:"etaSeconds" doc:"How long the rest takes at this rate; null where nobody knows, as long as there are unplanned items."`
}

// ByteProgressOf is the progress for done of total bytes, beside those of unplanned
// items, and perSecond more each second.
func ByteProgressOf(done, total int64, unplanned int, perSecond int64) ByteProgress {
	p := ByteProgress{BytesTotal: total, BytesDone: done, ItemsUnplanned: unplanned, BytesPerSecond: perSecond}
	if done < total && perSecond > 0 && unplanned == 0 {
		p.EtaSeconds = new((total - done + perSecond - 1) / perSecond)
	}
	return p
}
