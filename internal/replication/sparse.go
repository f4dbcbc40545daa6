package replication

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// sparseSetting is set once indexes may lack some of their children: that
// such an index is here then says nothing of what it should hold.
const sparseSetting = "sync-sparse"

// Recheck lets the next Sync ask again for every index that is to be here,
// since the source leaves out other parts of them than before.
func (e *Engine) Recheck(ctx context.Context) error {
	return e.db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.SetSetting(e.own(sparseSetting), "1"); err != nil {
			return err
		}
		return tx.ReopenIndexes(e.name, []string{oci.MediaTypeImageIndex, oci.MediaTypeDockerList}, e.now())
	})
}

// recheckIndex is [Engine.Recheck] for one index.
func (e *Engine) recheckIndex(tx *metadb.Tx, repository string, d digest.Digest) error {
	if err := tx.SetSetting(e.own(sparseSetting), "1"); err != nil {
		return err
	}
	return tx.ReopenSyncItems(e.name, repository, string(d), e.now())
}

// whole reports whether the manifest d is here, with all that is to be below
// it as far as can be told without the source.
func (r *run) whole(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	m, err := r.storage.DescribeManifest(ctx, repository, d)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil || !oci.IsIndex(m.MediaType) {
		return err == nil, err
	}
	var sparse string
	err = r.db.View(ctx, func(tx *metadb.Tx) (err error) {
		sparse, err = tx.Setting(r.own(sparseSetting))
		return err
	})
	if err != nil || sparse != "" {
		return false, err
	}
	return r.holdsAll(ctx, m, 0)
}

// maxDepth is how far indexes within indexes are looked into.
const maxDepth = 8

// holdsAll reports whether an index that is here holds all of its children: a
// source with a platform filter, which may be gone, may have brought it.
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
func (r *run) haveChildren(ctx context.Context, repository string, d digest.Digest, all map[wire.Want]bool) error {
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
			all[wire.Want{Repository: repository, Digest: child}] = true
		}
	}
	return err
}
