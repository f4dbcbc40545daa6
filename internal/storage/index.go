package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// HeldChildren returns the children that the index d holds: all of them, unless a platform
// filter omitted some; nil if there is no such index. The index treats its other children as
// absent.
func (s *Storage) HeldChildren(ctx context.Context, repository string, d digest.Digest) ([]digest.Digest, error) {
	return metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) ([]digest.Digest, error) {
		children, err := tx.Children(repository, string(d))
		return convert(manifests(children), func(text string) digest.Digest { return digest.Digest(text) }), err
	})
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

// setChildren makes an index hold the children, which are all here, and no others.
func (c *change) setChildren(index Manifest, children []metadb.Child) error {
	if !oci.IsIndex(index.MediaType) {
		return nil
	}
	old, err := c.tx.Children(index.Repository, string(index.Digest))
	if err != nil {
		return err
	}
	byDigest := func(a, b metadb.Child) int { return strings.Compare(a.Digest, b.Digest) }
	held := slices.DeleteFunc(slices.SortedFunc(slices.Values(children), byDigest),
		func(c metadb.Child) bool { return c.Omitted })
	if slices.Equal(old, held) {
		return nil
	}
	seq, err := c.number()
	if err != nil {
		return err
	}
	if err := c.releasedBelow(index.Digest); err != nil {
		return err
	}
	if err := c.tx.SetChildren(index.Repository, string(index.Digest), children, seq); err != nil {
		return err
	}
	return c.relist() // each tag that names the index has other content now
}
