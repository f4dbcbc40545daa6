package replication

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// A digestSet is a set of manifests of a repository.
type digestSet map[digest.Digest]bool

// contains reports whether the set has the manifest of an item or, if the item is the tag
// of a signature, the signed manifest.
func (s digestSet) contains(row metadb.SyncItem) bool {
	if subject, attached := subscription.AttachedTo(row.Tag); attached {
		return s[subject]
	}
	return row.Tag == "" && s[digest.Digest(row.Item)]
}

// retainedManifests returns the manifests that stay, by repository, although they left the
// source: the new content of their tags failed permanently. These are the manifests that
// the tags still name, everything below them, and their signatures and other referrers.
// Waiting repositories are left out, because nothing is removed from them anyway.
func (r *run) retainedManifests(ctx context.Context, waiting map[string]int) (map[string]digestSet, error) {
	old, err := r.unreplacedImages(ctx, waiting)
	if err != nil {
		return nil, err
	}
	retained := map[string]digestSet{}
	for repository, queue := range old {
		var attached map[digest.Digest][]digest.Digest
		err := r.storage.View(ctx, func(v *storage.View) (err error) {
			attached, err = attachments(v, repository)
			return err
		})
		if err != nil {
			return nil, err
		}
		set := digestSet{}
		for ; len(queue) > 0; queue = queue[1:] {
			if d := queue[0]; !set[d] {
				set[d] = true
				queue = append(queue, attached[d]...)
			}
		}
		retained[repository] = set
	}
	return retained, nil
}

// unreplacedImages returns, by repository, the old manifests of tags whose new content failed
// permanently.
func (r *run) unreplacedImages(ctx context.Context, waiting map[string]int) (map[string][]digest.Digest, error) {
	old := map[string][]digest.Digest{}
	repository, item := "", ""
	for {
		rows, err := r.Items(ctx, metadb.PermanentSyncItem, repository, item, pageSize)
		if err != nil || len(rows) == 0 {
			return old, err
		}
		for _, row := range rows {
			repository, item = row.Repository, row.Item
			if row.Tag == "" || waiting[row.Repository] > 0 {
				continue
			}
			tag, err := r.storage.Tag(ctx, row.Repository, row.Tag)
			if errors.Is(err, oci.ErrManifestUnknown) {
				continue // the tag is new, and replaces nothing
			}
			if err != nil {
				return nil, err
			}
			old[row.Repository] = append(old[row.Repository], tag.Digest)
		}
	}
}

// attachments returns the manifests that belong to each manifest of a repository: children
// of an index, referrers, and signatures that are attached by their tag.
func attachments(v *storage.View, repository string) (map[digest.Digest][]digest.Digest, error) {
	all := map[digest.Digest][]digest.Digest{}
	indexes, err := v.Indexes(repository)
	if err != nil {
		return nil, err
	}
	for index, children := range indexes {
		all[index] = append(all[index], children.Held...)
	}
	manifests, err := v.Manifests(repository)
	if err != nil {
		return nil, err
	}
	for _, m := range manifests {
		if m.Subject != "" {
			all[m.Subject] = append(all[m.Subject], m.Digest)
		}
	}
	tags, err := v.Tags(repository)
	for _, tag := range tags {
		if subject, attached := subscription.AttachedTo(tag.Name); attached {
			all[subject] = append(all[subject], tag.Digest)
		}
	}
	return all, err
}
