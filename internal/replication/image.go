package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// An image is a wanted manifest with all that is below it, in the order in
// which it must become visible; or a referrer, which follows its subject.
type image struct {
	repository string
	root       digest.Digest
	items      []metadb.SyncItem      // that are synced once it is whole, referrers and all
	manifests  []wire.PlanManifest    // root last; without those that were here already
	has        map[digest.Digest]bool // which those are
	blobs      []digest.Digest        // that are here under another repository
	layers     map[*layer]bool        // that are still on their way
	order      []*layer               // all of them
	doubts     map[*layer]bool        // of these, those that are fetched with another size than its manifest says
	referrers  []*image
	refused    map[string]error // by tag: why it can't be set
	after      *image           // the subject's image, of a referrer
	size       int64            // bytes that were missing when it was planned
	planned    bool             // all of the above is known
	err        error
	committed  bool
	settled    bool
}

func newImage(repository string, root digest.Digest) *image {
	return &image{repository: repository, root: root, has: map[digest.Digest]bool{}, layers: map[*layer]bool{}, doubts: map[*layer]bool{}, refused: map[string]error{}}
}

func (im *image) want() wire.Want { return wire.Want{Repository: im.repository, Digest: im.root} }

// parts are the image and its referrers.
func (im *image) parts() []*image { return append([]*image{im}, im.referrers...) }

// fail notes the first reason for which the image can't be whole.
func (im *image) fail(err error) {
	if im.err == nil {
		im.err = err
	}
}

// missing is how many bytes are to be fetched for the image and its referrers.
func (im *image) missing() (n int64) {
	for _, part := range im.parts() {
		for _, l := range part.order {
			n += l.size
		}
	}
	return n
}

// ready reports whether the image can become visible now.
func (im *image) ready() bool {
	return im.planned && im.err == nil && !im.committed && len(im.layers) == 0 && (im.after == nil || im.after.committed)
}

// outcome reports whether it is known what became of the image and its
// referrers, and the first reason for which one of them is not here.
func (im *image) outcome() (known bool, failure error) {
	if im.err != nil || !im.committed {
		return im.err != nil, im.err
	}
	for _, part := range im.referrers {
		if part.err == nil && !part.committed {
			return false, nil
		}
		if failure == nil {
			failure = part.err
		}
	}
	return true, failure
}

// commit makes the image visible: blobs, then manifests from the bottom up,
// then the tags. A tag that can't be set fails its own item only.
func (im *image) commit(ctx context.Context, e *Engine) error {
	for _, d := range im.blobs {
		if err := e.storage.LinkBlob(ctx, im.repository, d); err != nil {
			return err
		}
	}
	for _, m := range im.manifests {
		_, err := e.storage.PutManifest(ctx, storage.Put{
			Repository: m.Repository, MediaType: m.MediaType, Payload: m.Payload, Digest: m.Digest, LeftOut: m.LeftOut,
		})
		if err != nil {
			return err
		}
	}
	for _, item := range im.items {
		if item.Tag == "" {
			continue
		}
		if err := e.setTag(ctx, im.repository, item.Tag, im.root); err != nil {
			if oci.AsError(err) == nil {
				return err
			}
			im.refused[item.Tag] = err
		}
	}
	im.committed = true
	im.manifests, im.blobs = nil, nil // a long queue must not hold them
	return nil
}

// group puts the items of one manifest together.
func group(rows []metadb.SyncItem) []*image {
	var images []*image
	byRoot := map[wire.Want]*image{}
	for _, row := range rows {
		im := newImage(row.Repository, digest.Digest(row.Digest))
		if known := byRoot[im.want()]; known != nil {
			im = known
		} else {
			byRoot[im.want()] = im
			images = append(images, im)
		}
		im.items = append(im.items, row)
	}
	return images
}

// here settles the items whose manifest is in the repository already, whole, and
// returns the others' images.
func (r *run) here(ctx context.Context, rows []metadb.SyncItem) ([]*image, error) {
	var absent []*image
	for _, im := range group(rows) {
		whole, err := r.whole(ctx, im)
		if err != nil {
			return nil, err
		}
		if !whole {
			absent = append(absent, im)
			continue
		}
		if err := im.commit(ctx, r.Engine); err != nil {
			im.fail(err)
		}
		r.mu.Lock()
		_, err = r.settleImage(ctx, im)
		r.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	return absent, nil
}

// bySize puts the image that needs the fewest bytes first, so that something
// useful lands early.
func bySize(images []*image) {
	slices.SortStableFunc(images, func(a, b *image) int { return cmp.Compare(a.size, b.size) })
}

// settleImage notes the outcome for the image's items, once there is one, and
// reports whether it did. The run's lock is held.
func (r *run) settleImage(ctx context.Context, im *image) (bool, error) {
	if im.after != nil {
		im = im.after
	}
	known, failure := im.outcome()
	if !known || im.settled {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx) // which is no fault of the image
	}
	im.settled = true
	r.images = slices.DeleteFunc(r.images, func(o *image) bool { return o == im })
	if errors.As(failure, &laterError{}) {
		r.again = true
		return true, nil
	}
	if im.committed {
		r.touched[im.repository] = true
	}
	for _, item := range im.items {
		failure := cmp.Or(failure, im.refused[item.Tag])
		if err := r.settle(ctx, item, failure); err != nil {
			return true, err
		}
		log := r.log.With("repo", item.Repository, "tag", item.Tag, "digest", item.Digest)
		if failure != nil {
			r.result.Failed++
			if retry.Permanent(failure) {
				r.result.Refused++
			}
			r.failed[keyOf(item)] = true
			r.meter.add(func(p *Progress) { p.ItemsFailed++ })
			log.Warn("item is not synced", "err", failure)
			continue
		}
		r.result.Synced++
		r.meter.add(func(p *Progress) { p.ItemsDone++ })
		log.Info("item is synced")
	}
	return true, nil
}

// advance makes im visible if it is whole, then the referrers that waited for
// it, and notes the outcome.
func (r *run) advance(ctx context.Context, q *queue, im *image) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range im.parts() {
		if !part.ready() {
			continue
		}
		if err := part.commit(ctx, r.Engine); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			part.fail(err)
		}
	}
	settled, err := r.settleImage(ctx, im)
	if settled {
		q.settled()
	}
	return err
}
