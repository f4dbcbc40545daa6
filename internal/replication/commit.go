package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// maxCommits is how many images become visible in one transaction at most, so
// that other writers wait only for a moment.
const maxCommits = 100

// A commit makes parts of one image visible, and notes the outcome for its
// items if it is known then.
type commit struct {
	image   *image
	parts   []*image // in their order
	items   []metadb.SyncItem
	final   bool  // the outcome is known once the parts are visible, or failed
	failure error // of another part, known before

	// The result.
	errs    map[*image]error // why a part cannot become visible
	tagErrs map[string]error // why a tag cannot be set
	settled bool             // the outcome is noted
}

// advance queues an image of which a part can become visible, or the outcome
// is known.
func (r *run) advance(im *image) {
	if im.queued || im.working || !r.images[im] {
		return
	}
	known, _ := im.outcome()
	if !known && len(im.committable()) == 0 {
		return
	}
	im.queued = true
	r.ready = append(r.ready, im)
}

// committable returns the parts of an image that can become visible now.
func (im *image) committable() (parts []*image) {
	for _, part := range im.parts() {
		if part.ready() && (part == im || im.committed || len(parts) > 0) {
			parts = append(parts, part)
		}
	}
	return parts
}

// nextCommits returns the images that become visible next, together.
func (r *run) nextCommits() (batch []*commit) {
	if r.working {
		return nil
	}
	r.ready = slices.DeleteFunc(r.ready, func(im *image) bool { return im.cancelled })
	n := min(len(r.ready), maxCommits)
	for _, im := range r.ready[:n] {
		im.queued, im.working = false, true
		c := &commit{
			image: im, parts: im.committable(), items: im.items, errs: map[*image]error{}, tagErrs: im.tagErrs,
		}
		c.final, c.failure = im.outcome(c.parts...)
		batch = append(batch, c)
	}
	r.ready = slices.Delete(r.ready, 0, n)
	r.working = len(batch) > 0
	return batch
}

// commit makes images visible, and notes what became of their items: all in
// one transaction or, if anything is refused, each image in one of its own. The
// error is ctx's, or the database's.
func (e *Engine) commit(ctx context.Context, batch []*commit) error {
	if e.putTogether(ctx, batch...) == nil {
		return nil
	}
	for _, c := range batch {
		if e.putTogether(ctx, c) == nil {
			continue
		}
		if err := e.putApart(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// putTogether makes images visible, and notes the outcome for their items, in
// one transaction.
func (e *Engine) putTogether(ctx context.Context, batch ...*commit) error {
	var images []storage.Image
	for _, c := range batch {
		for _, part := range c.parts {
			images = append(images, e.stored(c, part))
		}
	}
	err := e.storage.PutImages(ctx, images, func(tx *metadb.Tx) error {
		for _, c := range batch {
			if !c.final {
				continue
			}
			if err := e.noteOutcome(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range batch {
		c.settled = c.final
	}
	return nil
}

// putApart makes the parts of an image visible one by one, and sets each tag
// alone, so that what is refused stops nothing else.
func (e *Engine) putApart(ctx context.Context, c *commit) error {
	nothing := func(*metadb.Tx) error { return nil }
	for _, part := range c.parts {
		im := e.stored(c, part)
		tags := im.Tags
		im.Tags = nil
		err := e.storage.PutImages(ctx, []storage.Image{im}, nothing)
		if ctx.Err() != nil {
			return context.Cause(ctx) // which is no fault of the image
		}
		if err != nil {
			c.errs[part] = err
			c.failure = cmp.Or(c.failure, err)
			if part == c.image {
				c.final = true
				break // its referrers do not come without it
			}
		}
		for _, tag := range tags {
			one := storage.Image{Repository: im.Repository, Root: im.Root, Tags: []string{tag}, KeepTags: im.KeepTags}
			if err := e.storage.PutImages(ctx, []storage.Image{one}, nothing); err != nil {
				c.tagErrs[tag] = err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !c.final {
		return nil
	}
	c.settled = true
	return e.db.Update(ctx, func(tx *metadb.Tx) error { return e.noteOutcome(tx, c) })
}

// stored is a part of an image as storage takes it: blobs, then manifests from
// the bottom up, then the tags.
func (e *Engine) stored(c *commit, part *image) storage.Image {
	im := storage.Image{Repository: part.repository, Blobs: part.links, Root: part.root, KeepTags: e.keepTags}
	for _, m := range part.manifests {
		im.Manifests = append(im.Manifests, storage.Put{
			Repository: m.Repository, MediaType: m.MediaType, Payload: m.Payload, Digest: m.Digest,
			LeftOut: m.OmittedChildren,
		})
	}
	if part == c.image {
		for _, item := range c.items {
			if item.Tag != "" {
				im.Tags = append(im.Tags, item.Tag)
			}
		}
	}
	return im
}

// noteOutcome notes what became of an image's items.
func (e *Engine) noteOutcome(tx *metadb.Tx, c *commit) error {
	for _, item := range c.items {
		if err := e.settle(tx, item, cmp.Or(c.failure, c.tagErrs[item.Tag])); err != nil {
			return err
		}
	}
	return nil
}

// settle notes how a try at an item ended, unless the item has moved on
// meanwhile: then it has to be looked at again anyway.
func (e *Engine) settle(tx *metadb.Tx, row metadb.SyncItem, failure error) error {
	now, err := tx.SyncItem(e.name, row.Repository, row.Item)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil || now.Digest != row.Digest || !now.ChangedAt.Equal(row.ChangedAt) {
		return err
	}
	failedBefore := now.State == Failed
	now.State, now.Error, now.Permanent = Synced, "", false
	if failure != nil {
		now.State, now.Error, now.Permanent = Failed, failure.Error(), isPermanent(failure, failedBefore)
	} else {
		now.SyncedAt = e.now()
	}
	return tx.PutSyncItem(now)
}

// isPermanent reports whether an item that failed is not waited for any more.
// That the source lacks something counts only if the item failed before: the
// source may have changed since it listed the item.
func isPermanent(failure error, failedBefore bool) bool {
	if e, ok := errors.AsType[absentError](failure); ok && e.useless {
		return true
	}
	return failedBefore && retry.Permanent(failure) && !retry.Unauthorized(failure)
}

// committed takes the results of commits in.
func (r *run) committed(batch []*commit) {
	r.working = false
	for _, c := range batch {
		im := c.image
		im.working = false
		for _, part := range c.parts {
			if err := c.errs[part]; err != nil {
				r.fail(part, err)
			} else if im.err == nil {
				part.committed = true
				part.manifests, part.links = nil, nil // a long queue must not hold them
			}
		}
		if c.settled {
			r.finish(c)
		} else {
			r.advance(im)
		}
	}
}

// finish counts the items of an image whose outcome is noted.
func (r *run) finish(c *commit) {
	r.forget(c.image)
	delete(r.images, c.image)
	if c.image.committed {
		r.touched[c.image.repository] = true
	}
	for _, item := range c.items {
		failure := cmp.Or(c.failure, c.tagErrs[item.Tag])
		if errors.Is(failure, oci.ErrNoSpace) {
			r.result.NoSpace++
			for l := range c.image.layersOfAll() { // somebody else took its room
				r.short[l.Digest] = l.Size
			}
		}
		log := r.log.With("repo", item.Repository, "tag", item.Tag, "digest", item.Digest)
		if failure != nil {
			r.result.Failed++
			if retry.Permanent(failure) {
				r.result.Refused++
			}
			r.failed[placeOf(item)] = item.ChangedAt
			r.items.ItemsFailed++
			log.Warn("item is not synced", "err", failure)
			continue
		}
		r.result.Synced++
		r.items.ItemsDone++
		log.Info("item is synced")
	}
}
