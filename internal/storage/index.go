package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Held returns which of its children the index d holds here: all of them,
// unless a platform filter left some out; nil where there is no such index.
// To the index, other children count as absent.
func (s *Storage) Held(ctx context.Context, repository string, d digest.Digest) (held []digest.Digest, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		children, err := tx.Children(repository, string(d))
		for _, d := range manifests(children) {
			held = append(held, digest.Digest(d))
		}
		return err
	})
	return held, err
}

// manifests returns the digests of children that are manifests.
func manifests(children []metadb.Child) (all []string) {
	for _, c := range children {
		if c.Manifest {
			all = append(all, c.Digest)
		}
	}
	return all
}

// Indexes returns the indexes of repository that hold the manifest d.
func (s *Storage) Indexes(ctx context.Context, repository string, d digest.Digest) (all []digest.Digest, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.IndexesOf(repository, string(d))
		for _, row := range rows {
			all = append(all, digest.Digest(row))
		}
		return err
	})
	return all, err
}

// setChildren makes an index that is here hold the children, which are, and no
// others.
func (c *change) setChildren(index metadb.Manifest, children []metadb.Child) error {
	if !oci.IsIndex(index.MediaType) {
		return nil
	}
	old, err := c.tx.Children(index.Repository, index.Digest)
	if err != nil {
		return err
	}
	byDigest := func(a, b metadb.Child) int { return strings.Compare(a.Digest, b.Digest) }
	held := slices.DeleteFunc(slices.SortedFunc(slices.Values(children), byDigest), func(c metadb.Child) bool { return c.LeftOut })
	if slices.Equal(old, held) {
		return nil
	}
	if err := c.tx.SetChildren(index.Repository, index.Digest, children); err != nil {
		return err
	}
	return c.relist() // whatever tag leads to the index has another part of it now
}
