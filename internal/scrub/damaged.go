package scrub

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// maxImages is how many images are named for each damage.
const maxImages = 10

// Damaged returns up to limit damaged blobs and manifests after (repository, digest), in that
// order, and the images that are incomplete because of each.
func (s *Scrubber) Damaged(ctx context.Context, repository, digest string, limit int) ([]api.Damaged, error) {
	return metadb.Read(ctx, s.DB, func(tx *metadb.Tx) ([]api.Damaged, error) {
		all := []api.Damaged{}
		rows, err := tx.Damages(repository, digest, limit)
		for _, row := range rows {
			d := api.Damaged{Digest: row.Digest, Size: row.Size, Reason: row.Reason, FoundTime: row.FoundAt.UTC()}
			if row.Repository != "" {
				d.Repository = &row.Repository
			}
			if d.Images, d.Fetchable, err = imagesOf(tx, row); err != nil {
				return nil, err
			}
			all = append(all, d)
		}
		return all, err
	})
}

// imagesOf names images that are incomplete because of a damage, by their tags if they have
// any, and reports whether a source will bring one of them.
func imagesOf(tx *metadb.Tx, d metadb.Damage) (names []string, fetchable bool, err error) {
	tagged, untagged := []string{}, []string{}
	needing, err := tx.ManifestsNeeding(d)
	for _, m := range needing {
		tags, err := tx.TagsOf(m.Repository, m.Digest)
		if err != nil {
			return nil, false, err
		}
		for _, t := range tags {
			tagged = append(tagged, m.Repository+":"+t.Name)
		}
		if len(tags) == 0 {
			untagged = append(untagged, m.Repository+"@"+m.Digest)
		}
		if !fetchable {
			if fetchable, err = tx.HasSyncItemOf(m.Repository, m.Digest); err != nil {
				return nil, false, err
			}
		}
	}
	if len(tagged) == 0 {
		tagged = untagged
	}
	return tagged[:min(len(tagged), maxImages)], fetchable, err
}
