// Package api is the types of the management API, and nothing else. The server encodes them, and
// the command line decodes them. docs/management-api.md describes the API.
//
// Names, nesting and values are those of the reference, so that scripts written for it read them
// unchanged. Times are RFC 3339 in UTC. IDs are paths below the API's root. Descriptions in the
// OpenAPI document that are too long for a tag are in the package management.
package api

import "time"

// Root is the path of the management API.
const Root = "/api/v1"

// Succeeded is the provisioning state of every resource, because a write is complete when it is
// answered.
const Succeeded = "Succeeded"

// Tagged is the part of a resource with its entity tag and, in the answer to a write, the connected
// registries that have not received the write yet.
type Tagged struct {
	ETag string `json:"-"` // it is a header
	WriteResult
}

// EntityTag returns the resource's entity tag.
func (t Tagged) EntityTag() string { return t.ETag }

// WriteResult is the part of the answer to a write that says what the write does not do: the connected
// registries that have not received it yet, and warnings.
type WriteResult struct {
	// Unheard is set in the answer to a write, unless all affected connected registries receive the
	// write at once.
	Unheard *Unheard `json:"unheard,omitempty" doc:"Connected registries that have not received the write yet."`
	// Warnings are set in the answer to a write that was made, and does not do what may be expected.
	Warnings []Warning `json:"warnings,omitempty" doc:"What the write does not do, though it may be expected."`
}

// A Warning is a part of the expected effect that a write does not have.
type Warning struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty" doc:"What to do about it."`
}

// SetUnheard sets the connected registries that have not received the write yet; nil is none.
func (t *WriteResult) SetUnheard(u *Unheard) { t.Unheard = u }

// An Unheard lists the connected registries that have not received a write yet.
type Unheard struct {
	Count      int               `json:"count" doc:"How many there are."`
	Registries []UnheardRegistry `json:"registries" nullable:"false" doc:"At most twenty, the latest first."`
}

// An UnheardRegistry is a connected registry that has not received a write yet.
type UnheardRegistry struct {
	Name string `json:"name"`
	// ExpectedTime is when the registry is expected to receive the write, by its sync windows and
	// those of the registries above it. It is not known if the registry is overdue or cannot log
	// in.
	ExpectedTime *time.Time `json:"expectedTime" doc:"Null if it is not known."`
}

// The types of resources, which are those of the reference.
const (
	TypeConnectedRegistry = "Microsoft.ContainerRegistry/registries/connectedRegistries"
	TypeToken             = "Microsoft.ContainerRegistry/registries/tokens"
)

// ScopeMapID returns the id of a scope map.
func ScopeMapID(name string) string { return "/scope-maps/" + name }

// TokenID returns the id of a token.
func TokenID(name string) string { return "/tokens/" + name }

// ConnectedRegistryID returns the id of a connected registry.
func ConnectedRegistryID(name string) string { return "/connected-registries/" + name }

// Text returns s, or nil if it is empty.
func Text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Time returns t in UTC, or nil if it is zero.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// List returns a copy of all that is never nil.
func List(all []string) []string { return append([]string{}, all...) }

// A ByteProgress is the progress of a sync, of an import, or of a mirror rule's run.
type ByteProgress struct {
	BytesTotal int64 `json:"bytesTotal" doc:"The size of the missing layers of all planned items."`
	BytesDone  int64 `json:"bytesDone" doc:"The part of bytesTotal that is stored here."`
	// ItemsUnplanned counts items whose sizes are not known yet. Unless it is 0, BytesTotal is a
	// lower bound.
	ItemsUnplanned int   `json:"itemsUnplanned" doc:"The number of missing items that bytesTotal does not include."`
	BytesPerSecond int64 `json:"bytesPerSecond" doc:"Over the last seconds; 0 unless it runs."`
	// EtaSeconds is nil as long as there are unplanned items.
	EtaSeconds *int64 `json:"etaSeconds" doc:"The time left at this rate; null if it is not known."`
}

// ByteProgressOf returns the progress of done of total bytes at the rate of perSecond, with a
// number of unplanned items.
func ByteProgressOf(done, total int64, unplanned int, perSecond int64) ByteProgress {
	p := ByteProgress{BytesTotal: total, BytesDone: done, ItemsUnplanned: unplanned, BytesPerSecond: perSecond}
	if done < total && perSecond > 0 && unplanned == 0 {
		p.EtaSeconds = new((total - done + perSecond - 1) / perSecond)
	}
	return p
}
