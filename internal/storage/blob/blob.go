// Package blob defines where blobs are kept: finished ones by digest, and
// partial ones, on their way in, by an id that their writer chose.
//
// A store does not verify content. Package storage does, and is a store's
// only caller.
package blob

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrNotExist is returned, wrapped, for a blob or a partial that the store lacks.
var ErrNotExist = errors.New("blob does not exist")

// A Store keeps blobs. It is safe for concurrent use; a partial has one user
// at a time.
type Store interface {
	// Open opens a finished blob. Where the store keeps files, the result is
	// an *os.File, so that net/http can use sendfile.
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error)
	// Stat describes a finished blob.
	Stat(ctx context.Context, d digest.Digest) (Info, error)
	// Partial opens the partial named id with what it holds, or creates it empty.
	Partial(ctx context.Context, id string) (Partial, error)
	// Commit makes the partial id the blob d, durably and in one step: it has
	// been synced by the caller, and after a power loss there is the whole blob
	// or none. A blob that is there already is replaced by the same content.
	Commit(ctx context.Context, id string, d digest.Digest) error
	// Reopen is the reverse of Commit, for a blob that nobody was told of: the
	// blob d is the partial id again, and one of that id which was there is gone.
	Reopen(ctx context.Context, d digest.Digest, id string) error
	// Discard removes a partial. One that is not there is no error.
	Discard(ctx context.Context, id string) error
	// Delete removes a finished blob. One that is not there is no error.
	Delete(ctx context.Context, d digest.Digest) error
	// Free returns how many bytes the store has room for; [math.MaxInt64] if it
	// has no bound that it knows of.
	Free(ctx context.Context) (int64, error)
	// Walk calls fn for every finished blob until fn returns an error, which
	// Walk then returns.
	Walk(ctx context.Context, fn func(Info) error) error
	// WalkPartials calls fn with the id of every partial and its size in bytes.
	WalkPartials(ctx context.Context, fn func(id string, size int64) error) error
}

// A Rereader is a [Store] that can open a blob so that its bytes come from the disk, and not
// from memory, where they may be better.
type Rereader interface {
	Reread(ctx context.Context, d digest.Digest) (io.ReadCloser, error)
}

// Info describes a finished blob.
type Info struct {
	Digest   digest.Digest
	Size     int64     // bytes
	Modified time.Time // when it was committed
}

// A Partial is content on its way in. Ranges may be written in any order and,
// where they do not overlap, at the same time.
type Partial interface {
	io.WriterAt
	io.ReaderAt
	// Size returns the end of the last byte written.
	Size() (int64, error)
	// Truncate drops what follows the first size bytes.
	Truncate(size int64) error
	// Sync returns when everything written so far would survive a power loss.
	Sync() error
	// Close releases the partial and keeps its content.
	Close() error
}
