// Package replication moves content from a source into storage: it plans,
// transfers and commits, and can be stopped at any moment and go on from the
// same byte. Its source is a parent's gateway or any OCI registry.
package replication

import (
	"context"
	"io"
	"time"

	"ferry/internal/wire"

	"github.com/opencontainers/go-digest"
)

// A Source is where content comes from.
type Source interface {
	// Plan streams what is needed for want, as wire.PlanEntry says, to fn,
	// and returns after the last entry, or with the first error.
	Plan(ctx context.Context, want []wire.Want, have []wire.Want, fn func(wire.PlanEntry) error) error
	// Blob opens a blob from offset, for length bytes or, at -1, to its end.
	// The source may ignore the range; the second result is the offset at
	// which the body really begins.
	Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error)
}

// A Batcher is a source that can send several small blobs in one answer, which
// saves a round trip for each.
type Batcher interface {
	// Batch streams blobs, in the order of want, to fn, and returns after the
	// last, or with the first error. content is nil where that blob does not
	// come in this way.
	Batch(ctx context.Context, want []wire.Want, fn func(i int, size int64, content io.Reader) error) error
}

// An Item is one thing that the source has and this registry is to have, or
// to lose: a tag, or a manifest by digest where Tag is empty.
type Item struct {
	Repository string
	Name       string // the tag, or the digest of one without: the place in [Engine.Items]
	Tag        string
	Digest     digest.Digest // "" when it is to go
	State      State
	Err        string // of the last try, when State is Failed
	ChangedAt  time.Time
	SyncedAt   time.Time // zero is never
}

// A State is how far an [Item] is.
type State string

// The states of an item.
const (
	Pending State = "pending"
	Synced  State = "synced"
	Failed  State = "failed"
)

// Progress is a moment of a running sync.
type Progress struct {
	ItemsTotal, ItemsDone, ItemsFailed int
	BytesTotal, BytesDone              int64 // of the layers that were missing when the sync began
	Received                           int64 // bytes of content that came over the link in this run
}
