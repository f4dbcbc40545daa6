package storage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// A View answers questions about one state of the content, however long that takes. It must not
// be used after the function that received it has returned.
type View struct {
	tx      *metadb.Tx
	storage *Storage
}

// View runs fn with a view of the content as it is now.
func (s *Storage) View(ctx context.Context, fn func(*View) error) error {
	return s.db.View(ctx, func(tx *metadb.Tx) error { return fn(&View{tx, s}) })
}

// FeedHead returns the sequence number of the last change, 0 before the first, and the number
// after which the feed is complete.
func (v *View) FeedHead() (head, trimmed int64, err error) { return v.tx.FeedHead() }

// ControlVersion returns the version of the control plane.
func (v *View) ControlVersion() (int64, error) { return v.tx.ControlVersion() }

// A FeedEntry is the last change of a repository in the feed.
type FeedEntry = metadb.FeedEntry

// Feed returns up to limit repositories that changed after the sequence number after, by the
// number of their last change. It includes deleted repositories until [Storage.TrimFeed]
// forgets them.
func (v *View) Feed(after int64, limit int) ([]FeedEntry, error) { return v.tx.Feed(after, limit) }

// FeedEntry returns the last change of a repository; zero if the feed does not have it.
func (v *View) FeedEntry(repository string) (FeedEntry, error) { return v.tx.FeedEntry(repository) }

// Repositories returns the names of up to limit repositories after the name after, in order,
// including those whose listing is locked.
func (v *View) Repositories(after string, limit int) ([]string, error) {
	rows, err := v.tx.Repositories(after, limit, 0)
	return convert(rows, func(row metadb.Repository) string { return row.Name }), err
}

// HasRepository reports whether a repository exists.
func (v *View) HasRepository(name string) (bool, error) {
	_, err := v.tx.Repository(name)
	if errors.Is(err, metadb.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// RepositoryLocks returns the locks of a repository; 0 if it does not exist.
func (v *View) RepositoryLocks(name string) (Locks, error) {
	row, err := v.tx.Repository(name)
	if errors.Is(err, metadb.ErrNotFound) {
		return 0, nil
	}
	return row.Locks, err
}

// HasLocks reports whether any content is locked.
func (v *View) HasLocks() (bool, error) { return v.tx.HasLocks() }

// DeletedSince returns the repositories that were deleted after the sequence number after, by
// name, until [Storage.TrimFeed] forgets them.
func (v *View) DeletedSince(after int64) ([]string, error) { return v.tx.DeletedSince(after) }

// A Removal is a tag or an untagged manifest that was removed from a repository.
type Removal = metadb.Removal

// Removed returns the items that were removed from repository after the sequence number after, by
// name. It may include items that were added again.
func (v *View) Removed(repository string, after int64) ([]Removal, error) {
	return v.tx.Removed(repository, after)
}

// Tags returns every tag of repository, by name, including those whose listing is locked. A
// repository that does not exist has none.
func (v *View) Tags(repository string) ([]Tag, error) {
	return v.tx.Tags(repository, TagOrder{}, metadb.NoLimit, 0)
}

// Manifests returns every manifest of repository, by digest, without payloads.
func (v *View) Manifests(repository string) ([]Manifest, error) {
	return v.tx.Manifests(repository, "", metadb.NoLimit)
}

// Indexes returns the children of every index of repository.
func (v *View) Indexes(repository string) (map[digest.Digest]IndexChildren, error) {
	edges, err := v.tx.IndexEdges(repository)
	all := map[digest.Digest]IndexChildren{}
	for _, e := range edges {
		c := all[digest.Digest(e.Index)]
		if e.Omitted {
			c.Omitted = append(c.Omitted, digest.Digest(e.Child))
		} else {
			c.Held = append(c.Held, digest.Digest(e.Child))
		}
		all[digest.Digest(e.Index)] = c
	}
	return all, err
}

// IndexChildren are the manifests that an index lists, by digest.
type IndexChildren struct {
	Held    []digest.Digest // that the index holds here
	Omitted []digest.Digest // that a platform filter omits
}

// BlobSizes returns the sizes of the blobs that the manifest d of repository refers to, in bytes; -1
// is that of a blob that is not here.
func (v *View) BlobSizes(repository string, d digest.Digest) (map[digest.Digest]int64, error) {
	blobs, err := v.tx.ChildBlobs(repository, string(d))
	sizes := map[digest.Digest]int64{}
	for _, b := range blobs {
		sizes[digest.Digest(b.Digest)] = b.Size
	}
	return sizes, err
}

// Manifest returns the manifest d of repository, or [oci.ErrManifestUnknown]. The payload is as
// that of [Storage.Manifest].
func (v *View) Manifest(repository string, d digest.Digest) (*Manifest, error) {
	row, err := v.tx.Manifest(repository, string(d))
	if err != nil {
		return nil, mapNotFound(err, oci.ErrManifestUnknown)
	}
	return &row, nil
}
