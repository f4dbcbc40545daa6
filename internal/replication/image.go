package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// An image is a wanted manifest with all that is below it, in the order in
// which it must become visible; or a referrer, which follows its subject.
type image struct {
	repository string
	root       digest.Digest
	items      []metadb.SyncItem      // that are synced once it is whole, referrers and all
	manifests  []gateway.PlanManifest // root last; without those that were here already
	blobs      []digest.Digest        // that are here under another repository
	layers     map[*layer]bool        // that are still on their way
	order      []*layer               // all of them
	referrers  []*image
	after      *image // the subject's image, of a referrer
	size       int64  // bytes that were missing when it was planned
	err        error
	committed  bool
	settled    bool
}

// fail notes the first reason for which the image can't be whole.
func (im *image) fail(err error) {
	if im.err == nil {
		im.err = err
	}
}

// missing is how many bytes are to be fetched for the image and its referrers.
func (im *image) missing() (n int64) {
	for _, l := range im.order {
		n += l.size
	}
	for _, r := range im.referrers {
		n += r.missing()
	}
	return n
}

// ready reports whether the image can become visible now.
func (im *image) ready() bool {
	return im.err == nil && !im.committed && len(im.layers) == 0 && (im.after == nil || im.after.committed)
}

// commit makes the image visible: blobs, then manifests from the bottom up,
// then the tags.
func (im *image) commit(ctx context.Context, s *storage.Storage) error {
	for _, d := range im.blobs {
		if err := s.LinkBlob(ctx, im.repository, d); err != nil {
			return err
		}
	}
	for _, m := range im.manifests {
		_, err := s.PutManifest(ctx, storage.Put{
			Repository: m.Repository, MediaType: m.MediaType, Payload: m.Payload, Digest: m.Digest, Origin: Origin,
		})
		if err != nil {
			return err
		}
	}
	for _, item := range im.items {
		if item.Tag == "" {
			continue
		}
		if err := s.SetTag(ctx, im.repository, item.Tag, im.root, Origin); err != nil {
			return err
		}
	}
	im.committed = true
	return nil
}

// settleImage notes the outcome for the image's items, once it and its
// referrers have one.
func (e *Engine) settleImage(ctx context.Context, im *image, result *Result) error {
	if im.after != nil {
		im = im.after
	}
	if im.settled || !im.committed && im.err == nil {
		return nil
	}
	failure := im.err
	for _, r := range im.referrers {
		if failure == nil && !r.committed && r.err == nil {
			return nil // still on its way
		}
		if failure == nil {
			failure = r.err
		}
	}
	im.settled = true
	for _, item := range im.items {
		if err := e.settle(ctx, item, failure); err != nil {
			return err
		}
		if failure != nil {
			result.Failed++
			e.meter.itemsFailed.Add(1)
			e.log.Warn("item is not synced", "repo", item.Repository, "tag", item.Tag, "digest", item.Digest, "err", failure)
			continue
		}
		result.Synced++
		e.meter.itemsDone.Add(1)
		e.log.Info("item is synced", "repo", item.Repository, "tag", item.Tag, "digest", item.Digest)
	}
	return nil
}

// here settles the items whose manifest is in the repository already, and
// returns the others as images, those of one manifest together.
func (e *Engine) here(ctx context.Context, rows []metadb.SyncItem, result *Result) ([]*image, error) {
	var images []*image
	byRoot := map[gateway.Want]*image{}
	for _, row := range rows {
		want := gateway.Want{Repository: row.Repository, Digest: digest.Digest(row.Digest)}
		im := byRoot[want]
		if im == nil {
			im = &image{repository: row.Repository, root: want.Digest, layers: map[*layer]bool{}}
			byRoot[want] = im
			images = append(images, im)
		}
		im.items = append(im.items, row)
	}
	var absent []*image
	for _, im := range images {
		has, err := e.storage.HasManifest(ctx, im.repository, im.root)
		if err != nil {
			return nil, err
		}
		if !has {
			absent = append(absent, im)
			continue
		}
		if err := im.commit(ctx, e.storage); err != nil {
			im.fail(err)
		}
		if err := e.settleImage(ctx, im, result); err != nil {
			return nil, err
		}
	}
	return absent, nil
}

// have returns the manifests that are worth telling the source of: those that
// the wanted tags' present images are made of.
func (e *Engine) have(ctx context.Context, images []*image) ([]gateway.Want, error) {
	const most = 10_000
	seen := map[gateway.Want]bool{}
	var all []gateway.Want
	for _, im := range images {
		for _, item := range im.items {
			if item.Tag == "" || len(all) >= most {
				continue
			}
			m, err := e.storage.Manifest(ctx, item.Repository, item.Tag)
			if errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrDenied) {
				continue
			}
			if err != nil {
				return nil, err
			}
			parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
			if err != nil {
				return nil, err
			}
			for _, child := range parsed.Manifests {
				has := gateway.Want{Repository: item.Repository, Digest: child.Digest}
				if !seen[has] {
					seen[has] = true
					all = append(all, has)
				}
			}
		}
	}
	return all[:min(len(all), most)], nil
}

// bySize puts the image that needs the fewest bytes first, so that something
// useful lands early.
func bySize(images []*image) {
	slices.SortStableFunc(images, func(a, b *image) int {
		return cmp.Compare(a.size, b.size)
	})
}
