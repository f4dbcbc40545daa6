// Package replication brings a registry's content in step with a source: a
// parent's gateway or any OCI registry. It can be stopped at any moment and
// goes on from the same byte.
//
// An [Engine] keeps the list of items that are to be here (listing.go).
// A Sync works the list off: run.go shows its pipeline, from the list over plans
// (plan.go) and blobs, which package download fetches, to visible images
// (commit.go). Then it removes what left the source (prune.go).
package replication

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
)

// A Ref is a manifest or a blob of a repository.
type Ref = download.Ref

// A Source is where content comes from. It may be a [download.Batcher], too.
type Source interface {
	download.Source
	// Plan streams what is needed for want to fn, without what is below have,
	// and returns after the last entry, or with the first error. A manifest
	// follows everything below it, a referrer follows its subject.
	Plan(ctx context.Context, want, have []Ref, fn func(PlanEntry) error) error
}

// A PlanEntry is one thing that is needed for a wanted manifest. Exactly one of
// the fields is set.
type PlanEntry struct {
	Blob     *PlanBlob
	Manifest *PlanManifest
	Missing  *PlanMissing
	Complete *Ref // a wanted manifest of which everything was said, its referrers included
}

// A PlanBlob is a config or a layer that a later manifest of the plan needs.
type PlanBlob struct {
	Ref
	Size  int64  // at the source
	Data  []byte // the whole content, if it is small; else nil
	Batch bool   // it can come in a batch
}

// A PlanManifest is a manifest, byte for byte.
type PlanManifest struct {
	Ref
	MediaType string
	Payload   []byte
	// OmittedChildren are children of an index that do not come, and that the
	// index is not to hold here, because a platform filter leaves them out.
	OmittedChildren []digest.Digest
}

// A PlanMissing is a manifest or a blob that the source does not have, or does
// not give.
type PlanMissing struct {
	Ref
	Reason      string
	Temporary   bool // another try may bring it
	Unsupported bool // the source has it, and this registry can make nothing of it
}

// The states of an item.
const (
	Pending = "pending"
	Synced  = "synced"
	Failed  = "failed"
)

// Progress is a moment of a running sync.
type Progress struct {
	ItemsTotal, ItemsDone, ItemsFailed int
	ItemsPlanned                       int   // of those that are neither done nor failed
	BytesTotal, BytesDone              int64 // of the layers that were missing for items that are or were planned
	Received                           int64 // bytes of content that came over the link in this run
}

// ItemsUnplanned returns how many items are to come of which nobody knows yet how
// many bytes they lack.
func (p Progress) ItemsUnplanned() int {
	return max(p.ItemsTotal-p.ItemsDone-p.ItemsFailed-p.ItemsPlanned, 0)
}
