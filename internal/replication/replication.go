// Package replication keeps the content of repositories in sync with a source: a parent's
// gateway or any OCI registry. A sync can be stopped at any moment, and the next one
// continues at the same byte.
//
// An [Engine] records the items that the source lists (listing.go) and how far it has read
// the source's feed (position.go). [Engine.Sync] then works in a pipeline, which run.go
// shows in one function:
//
//   - pending.go reads the items that are not in sync;
//   - plan.go and planstream.go request a plan from the source: everything that their
//     images need; missing.go finds out which of it is missing;
//   - diskspace.go fails the images for which the disk has no space;
//   - layer.go passes missing layers to package download, and handles its results;
//   - commit.go makes complete images visible, and their tags last;
//   - prune.go removes old content, except for the manifests that retained.go finds;
//   - priority.go applies a new order, or changed items, to a running sync.
package replication

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
)

// A Ref names a manifest or a blob of a repository.
type Ref = download.Ref

// A Source is a registry from which content is synced. It may also be a [download.Batcher].
type Source interface {
	download.Source
	// Plan passes to fn everything that the manifests in want need, but nothing below the
	// manifests in have. A manifest follows everything below it; a
	// referrer follows its subject. Plan returns after the last entry, or with the
	// first error.
	Plan(ctx context.Context, want, have []Ref, fn func(PlanEntry) error) error
}

// A PlanEntry is an entry of a plan. Exactly one field is set.
type PlanEntry struct {
	Blob     *PlanBlob
	Manifest *PlanManifest
	Missing  *PlanMissing
	Complete *Ref // a wanted manifest: all of its entries have been sent, its referrers included
}

// A PlanBlob is a config or a layer of a manifest that follows in the plan.
type PlanBlob struct {
	Ref
	Size  int64  // at the source
	Data  []byte // the content, if it is small; else nil
	Batch bool   // it can be fetched in a batch
}

// A PlanManifest is a manifest, byte for byte.
type PlanManifest struct {
	Ref
	MediaType string
	Payload   []byte
	// OmittedChildren are children that a platform filter excludes from an index. The
	// index is complete without them.
	OmittedChildren []digest.Digest
}

// A PlanMissing is a manifest or a blob that the source does not have or does not send.
type PlanMissing struct {
	Ref
	Reason      string
	Temporary   bool // another try may succeed
	Unsupported bool // the source has it, in a format that this registry cannot serve
}

// The states of an item.
const (
	Pending = "pending"
	Synced  = "synced"
	Failed  = "failed"
)

// Progress is the progress of a Sync.
type Progress struct {
	ItemsTotal, ItemsDone, ItemsFailed int
	ItemsPlanned                       int   // items that are planned, and neither done nor failed
	BytesTotal, BytesDone              int64 // of the layers that planned items lacked
	Received                           int64 // bytes of content received over the link
}

// ItemsUnplanned returns for how many pending items it is not known yet how many bytes they
// lack.
func (p Progress) ItemsUnplanned() int {
	return max(p.ItemsTotal-p.ItemsDone-p.ItemsFailed-p.ItemsPlanned, 0)
}
