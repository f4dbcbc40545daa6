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

// keeps reports whether an item that left the source stays, because it is, or
// belongs to, a manifest of the set.
func (s digestSet) keeps(row metadb.SyncItem) bool {
	if subject, belongs := subscription.Subject(row.Tag); belongs {
		return s[subject]
	}
	return row.Tag == "" && s[digest.Digest(row.Item)]
}

// replaced returns, for each repository that is not waiting, the manifests here
// that content would have replaced which fails for good: those that its tags
// still name, what is below them, and their signatures and other referrers.
func (r *run) replaced(ctx context.Context, waiting map[string]int) (map[string]digestSet, error) {
	old, err := r.oldImages(ctx, waiting)
	if err != nil {
		return nil, err
	}
	kept := map[string]digestSet{}
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
		kept[repository] = set
	}
	return kept, nil
}

// oldImages returns, by repository, what the tags name here whose new content
// fails for good.
func (r *run) oldImages(ctx context.Context, waiting map[string]int) (map[string][]digest.Digest, error) {
	old := map[string][]digest.Digest{}
	repository, item := "", ""
	for {
		rows, err := r.Items(ctx, metadb.RefusedSyncItem, repository, item, page)
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
				continue // it is new
			}
			if err != nil {
				return nil, err
			}
			old[row.Repository] = append(old[row.Repository], tag.Digest)
		}
	}
}

// attachments returns what goes along with each manifest of a repository.
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
		if subject, belongs := subscription.Subject(tag.Name); belongs {
			all[subject] = append(all[subject], tag.Digest)
		}
	}
	return all, err
}
