package storage

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage/blob"
)

// Unlocked is the content without regard to locks. Locks are for clients: the sync with a parent
// writes and deletes what the parent decided, locks included, and connected registries receive
// content that no client may pull, so that unlocking it needs no transfer. It refuses with
// [ErrUnsent] to change an item that a client changed here, while the parent does not have that yet.
type Unlocked struct{ s *Storage }

// Unlocked returns the content without regard to locks.
func (s *Storage) Unlocked() Unlocked { return Unlocked{s} }

// Manifest is [Storage.Manifest].
func (u Unlocked) Manifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	return u.s.cachedManifest(ctx, repository, reference)
}

// OpenBlob is [Storage.OpenBlob].
func (u Unlocked) OpenBlob(
	ctx context.Context, repository string, d digest.Digest,
) (io.ReadSeekCloser, blob.Info, error) {
	return u.s.openBlob(ctx, repository, d, 0)
}

// BlobURL is [Storage.BlobURL].
func (u Unlocked) BlobURL(ctx context.Context, repository string, d digest.Digest) (string, error) {
	return u.s.blobURL(ctx, repository, d, 0)
}

// PutImages is [Storage.PutImages].
func (u Unlocked) PutImages(ctx context.Context, images []Image, also func(*metadb.Tx) error) error {
	return u.s.putImages(ctx, images, true, also)
}

// DeleteTag is [Storage.DeleteTag].
func (u Unlocked) DeleteTag(ctx context.Context, repository, name string, notes ...Note) error {
	return u.s.removeTag(ctx, repository, name, bySync, notes)
}

// DeleteManifest is [Storage.DeleteManifest].
func (u Unlocked) DeleteManifest(ctx context.Context, repository string, d digest.Digest, notes ...Note) error {
	return u.s.deleteManifest(ctx, repository, d, bySync, notes)
}

// DeleteRepository is [Storage.DeleteRepository].
func (u Unlocked) DeleteRepository(ctx context.Context, name string, notes ...Note) error {
	return u.s.removeRepository(ctx, name, bySync, notes)
}
