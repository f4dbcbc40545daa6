// Package blob defines the store of blobs: complete ones by digest, and partial ones by an id
// that their writer chose.
//
// A store does not verify content. Package storage does, and is the only caller.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// Errors of a [Store], which it returns wrapped.
var (
	// ErrNotExist is the error for a blob or a partial that does not exist.
	ErrNotExist = errors.New("blob does not exist")
	// ErrUnavailable is the error of a store that does not answer, or refuses for a while. Nothing
	// that was stored is lost; a retry later may succeed. Clients get [oci.ErrUnavailable].
	ErrUnavailable = fmt.Errorf("blob store: %w", oci.ErrUnavailable)
)

// A Store keeps blobs. It is safe for concurrent use; a partial has one user at a time.
type Store interface {
	// Open opens a complete blob. If the store keeps files, the result is an *os.File, so that
	// net/http can use sendfile.
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error)
	// Stat describes a complete blob.
	Stat(ctx context.Context, d digest.Digest) (Info, error)
	// Partial opens the partial id with its content, or creates it empty.
	Partial(ctx context.Context, id string) (Partial, error)
	// Commit gives the blob d the content of the partial id, durably and atomically: after a
	// power loss the complete blob exists, or the partial, or both. The caller has synced the
	// partial. A blob that exists is replaced by the same content. The partial may remain, so
	// that the caller must discard it once the blob is recorded.
	Commit(ctx context.Context, id string, d digest.Digest) error
	// Reopen is the inverse of Commit, for a blob that was not recorded. The partial id has the
	// content of the blob d again. A partial of that id is replaced. If the partial remained
	// after the Commit, the blob may remain, too: nobody owns it.
	Reopen(ctx context.Context, d digest.Digest, id string) error
	// Discard deletes a partial. It is no error if there is none.
	Discard(ctx context.Context, id string) error
	// Delete deletes a complete blob. It is no error if there is none.
	Delete(ctx context.Context, d digest.Digest) error
	// Free returns the free space in bytes; [math.MaxInt64] if the store knows no limit.
	Free(ctx context.Context) (int64, error)
	// Walk calls fn for every complete blob, until fn returns an error, which Walk then
	// returns.
	Walk(ctx context.Context, fn func(Info) error) error
	// WalkPartials calls fn with the id and the size in bytes of every partial.
	WalkPartials(ctx context.Context, fn func(id string, size int64) error) error
}

// A Rereader is a [Store] that can read a blob from the disk even if the system has it in
// memory, because the disk's copy may be damaged.
type Rereader interface {
	Reread(ctx context.Context, d digest.Digest) (io.ReadCloser, error)
}

// A Keeper is a [Store] that knows whether a blob still is as it was committed, so that a commit
// of the same content need not replace it.
type Keeper interface {
	// Keeps reports whether the blob d exists and was not written to since its commit.
	Keeps(ctx context.Context, d digest.Digest) (bool, error)
}

// A Cleaner is a [Store] that has leftovers of operations that a crash interrupted, which are
// neither blobs nor partials.
type Cleaner interface {
	// Clean deletes the leftovers that are older than before, and returns their number.
	Clean(ctx context.Context, before time.Time) (int, error)
}

// A Linker is a [Store] that can let others read a blob without going through this process.
type Linker interface {
	// Link returns a URL from which anybody can read the blob d until lifetime has passed.
	Link(ctx context.Context, d digest.Digest, lifetime time.Duration) (string, error)
}

// A Coarse store needs a request for each Sync of a partial, so that a Sync of few bytes is waste.
type Coarse interface {
	// LeastSync returns how many bytes are worth a Sync.
	LeastSync() int64
}

// A Marked store has a mark, by which the database that belongs to its blobs recognises it, wherever
// its content is copied or restored: a short text of letters and digits; "" is none.
type Marked interface {
	Mark(ctx context.Context) (string, error)
	// KeepMark sets the mark if the store has none, and returns the one that it has then.
	KeepMark(ctx context.Context, mark string) (string, error)
	// SetMark replaces the mark.
	SetMark(ctx context.Context, mark string) error
}

// Info describes a complete blob.
type Info struct {
	Digest   digest.Digest
	Size     int64     // bytes
	Modified time.Time // when it was committed
}

// A Partial is the incomplete content of a blob. Ranges may be written in any order, and ranges
// that do not overlap at the same time.
type Partial interface {
	io.WriterAt
	io.ReaderAt
	// Size returns the offset after the last byte written.
	Size() (int64, error)
	// Truncate removes all but the first size bytes.
	Truncate(size int64) error
	// Sync returns when everything that was written would survive a power loss.
	Sync() error
	// Close releases the partial, and keeps its content.
	Close() error
}
