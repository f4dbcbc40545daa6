package replication

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// whole reports whether the manifest of an image is here, with all that must be
// below it, as far as that can be told without the source: of an index of which
// the source has a part it cannot.
func (r *run) whole(ctx context.Context, im *image) (bool, error) {
	m, err := r.storage.DescribeManifest(ctx, im.repository, im.root)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil || !oci.IsIndex(m.MediaType) {
		return err == nil, err
	}
	if slices.ContainsFunc(im.items, func(item metadb.SyncItem) bool { return item.Part != "" }) {
		return false, nil
	}
	return r.holdsAll(ctx, m, 0)
}

// maxDepth is how far indexes within indexes are looked into.
const maxDepth = 8

// holdsAll reports whether an index that is here holds all of its children. It
// may not: a platform filter, which may be gone, may have applied when it came.
func (r *run) holdsAll(ctx context.Context, index storage.Manifest, depth int) (bool, error) {
	parsed, err := oci.ParseManifest(index.MediaType, index.Payload)
	if err != nil {
		return false, err
	}
	held, err := r.storage.Held(ctx, index.Repository, index.Digest)
	if err != nil {
		return false, err
	}
	for _, child := range parsed.Manifests {
		if !slices.Contains(held, child.Digest) {
			return false, nil
		}
		if !oci.IsIndex(child.MediaType) || depth == maxDepth {
			continue
		}
		m, err := r.storage.DescribeManifest(ctx, index.Repository, child.Digest)
		if errors.Is(err, oci.ErrManifestUnknown) {
			return false, nil // it went meanwhile
		}
		if err != nil {
			return false, err
		}
		if all, err := r.holdsAll(ctx, m, depth+1); err != nil || !all {
			return false, err
		}
	}
	return true, nil
}

// haveChildren adds the manifests to all that an index holds, for which the
// source need not be asked. What it holds of indexes within it may be more or
// less than it should be.
func (r *run) haveChildren(ctx context.Context, repository string, d digest.Digest, all map[Ref]bool) error {
	if len(all) >= maxHave {
		return nil
	}
	held, err := r.storage.Held(ctx, repository, d)
	for _, child := range held {
		m, err := r.storage.DescribeManifest(ctx, repository, child)
		if errors.Is(err, oci.ErrManifestUnknown) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		if !oci.IsIndex(m.MediaType) {
			all[Ref{Repository: repository, Digest: child}] = true
		}
	}
	return err
}
