package storage

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// DescribeManifest returns the manifest d of repository, or
// [oci.ErrManifestUnknown]. Unlike [Storage.Manifest] it has the manifest's
// own locks alone, and is answered also where reading is locked: it is for
// who manages content, not for who pulls it.
func (s *Storage) DescribeManifest(ctx context.Context, repository string, d digest.Digest) (m Manifest, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := tx.Manifest(repository, string(d))
		m = *manifestOf(row)
		return known(err, oci.ErrManifestUnknown)
	})
	return m, err
}
