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

// maxCommits is the largest number of images that become visible in one transaction, so
// that other writers wait only for a moment.
const maxCommits = 100

// A commit makes an image, its referrers, or some of them visible, sets the tags, and
// records the outcome of the items.
type commit struct {
	main         *image
	images       []*image // main and its referrers, as far as they become visible now
	items        []metadb.SyncItem
	outcomeKnown bool  // afterwards, main and all referrers are visible or failed
	failure      error // the first among them; nil if all are visible

	// The result.
	errs      map[*image]error // why an image cannot become visible
	tagErrors map[string]error // why a tag cannot be set
	recorded  bool             // the outcome of the items is recorded
}

// queueCommit queues an image if it or a referrer can become visible, or if its outcome is
// known.
func (r *run) queueCommit(im *image) {
	if im.queued || im.committing || !r.images[im] {
		return
	}
	known, _ := im.outcome()
	if !known && len(im.committable()) == 0 {
		return
	}
	im.queued = true
	r.toCommit = append(r.toCommit, im)
}

// committable returns the image and the referrers that can become visible now. A referrer
// cannot become visible before the image.
func (im *image) committable() (images []*image) {
	for _, part := range im.withReferrers() {
		if part.isReady() && (part == im || im.committed || len(images) > 0) {
			images = append(images, part)
		}
	}
	return images
}

// nextCommits returns the images to commit next in one transaction; nil if there are none,
// or a commit is running.
func (r *run) nextCommits() (batch []*commit) {
	if r.committing {
		return nil
	}
	r.toCommit = slices.DeleteFunc(r.toCommit, func(im *image) bool { return im.canceled })
	n := min(len(r.toCommit), maxCommits)
	for _, im := range r.toCommit[:n] {
		im.queued, im.committing = false, true
		c := &commit{
			main: im, images: im.committable(), items: im.items, errs: map[*image]error{}, tagErrors: im.tagErrors,
		}
		c.outcomeKnown, c.failure = im.outcome(c.images...)
		batch = append(batch, c)
	}
	r.toCommit = slices.Delete(r.toCommit, 0, n)
	r.committing = len(batch) > 0
	return batch
}

// commit makes the images of a batch visible, sets their tags, and records the outcome of
// their items. It tries one transaction for the whole batch and, if that fails, one for each
// image. An image that fails again gets separate transactions for its manifests, for each
// referrer and for each tag, so that an error stops nothing else. The returned error is ctx's
// cause, or a failure of the database.
func (e *Engine) commit(ctx context.Context, batch []*commit) error {
	if e.commitTogether(ctx, batch...) == nil {
		return nil
	}
	for _, c := range batch {
		if e.commitTogether(ctx, c) == nil {
			continue
		}
		if err := e.commitSeparately(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// commitTogether commits a batch in one transaction.
func (e *Engine) commitTogether(ctx context.Context, batch ...*commit) error {
	var images []storage.Image
	for _, c := range batch {
		for _, im := range c.images {
			images = append(images, e.storageImage(c, im))
		}
	}
	err := e.content.PutImages(ctx, images, func(tx *metadb.Tx) error {
		for _, c := range batch {
			if !c.outcomeKnown {
				continue
			}
			if err := e.recordOutcome(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range batch {
		c.recorded = c.outcomeKnown
	}
	return nil
}

// commitSeparately commits the image and each referrer in a transaction of its own, and
// sets each tag in another one.
func (e *Engine) commitSeparately(ctx context.Context, c *commit) error {
	nothing := func(*metadb.Tx) error { return nil }
	for _, im := range c.images {
		stored := e.storageImage(c, im)
		tags := stored.Tags
		stored.Tags = nil
		err := e.content.PutImages(ctx, []storage.Image{stored}, nothing)
		if ctx.Err() != nil {
			return context.Cause(ctx) // not the image's fault
		}
		if err != nil {
			c.errs[im] = err
			c.failure = cmp.Or(c.failure, err)
			if im == c.main {
				c.outcomeKnown = true
				break // its referrers cannot become visible without it
			}
		}
		for _, tag := range tags {
			tagged := storage.Image{
				Repository: stored.Repository, Root: stored.Root, Tags: []string{tag}, KeepTags: stored.KeepTags,
			}
			if err := e.content.PutImages(ctx, []storage.Image{tagged}, nothing); err != nil {
				c.tagErrors[tag] = err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !c.outcomeKnown {
		return nil
	}
	c.recorded = true
	return e.db.Update(ctx, func(tx *metadb.Tx) error { return e.recordOutcome(tx, c) })
}

// storageImage returns an image in storage's terms: blobs to link, manifests with children
// first and, for the main image, the tags.
func (e *Engine) storageImage(c *commit, im *image) storage.Image {
	stored := storage.Image{Repository: im.repository, Blobs: im.blobsToLink, Root: im.root, KeepTags: e.keepTags}
	for _, m := range im.manifests {
		stored.Manifests = append(stored.Manifests, storage.Put{
			Repository: m.Repository, MediaType: m.MediaType, Payload: m.Payload, Digest: m.Digest,
			Omitted: m.OmittedChildren,
		})
	}
	if im == c.main {
		for _, item := range c.items {
			if item.Tag != "" {
				stored.Tags = append(stored.Tags, item.Tag)
			}
		}
	}
	return stored
}

// recordOutcome records for each item of a commit whether it is in sync or failed.
func (e *Engine) recordOutcome(tx *metadb.Tx, c *commit) error {
	for _, item := range c.items {
		if err := e.recordItem(tx, item, cmp.Or(c.failure, c.tagErrors[item.Tag])); err != nil {
			return err
		}
	}
	return nil
}

// recordItem records that an item is in sync or, with a failure, that it failed. It records
// nothing if the item changed meanwhile, because then it must be synced again.
func (e *Engine) recordItem(tx *metadb.Tx, row metadb.SyncItem, failure error) error {
	now, err := tx.SyncItem(e.name, row.Repository, row.Item)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil || now.Digest != row.Digest || !now.ChangedAt.Equal(row.ChangedAt) {
		return err
	}
	if errors.Is(failure, storage.ErrUnsent) {
		return nil // the row says so, too, or the item is synced once the change was sent
	}
	before := now
	failedBefore := before.State == Failed
	now.State, now.Error, now.Permanent = Synced, "", false
	if failure != nil {
		now.State, now.Error, now.Permanent = Failed, failure.Error(), isPermanent(failure, failedBefore)
	} else {
		now.SyncedAt = e.now()
	}
	if err := tx.PutSyncItem(now); err != nil {
		return err
	}
	return e.observeOutcome(tx, before, now, failure)
}

// isPermanent reports whether a failed item no longer holds up the removal of old content.
// Missing content counts only from the second failure on, because the source may have
// changed since it listed the item. Refused credentials never count.
func isPermanent(failure error, failedBefore bool) bool {
	if e, ok := errors.AsType[unavailableError](failure); ok && e.unsupported {
		return true
	}
	return failedBefore && retry.Permanent(failure) && !retry.Unauthorized(failure)
}

// imagesCommitted handles the results of a batch of commits.
func (r *run) imagesCommitted(batch []*commit) {
	r.committing = false
	for _, c := range batch {
		c.main.committing = false
		for _, im := range c.images {
			if err := c.errs[im]; err != nil {
				r.failImage(im, err)
			} else if c.main.err == nil {
				im.committed = true
				im.manifests, im.blobsToLink = nil, nil // free the memory while referrers are in flight
			}
		}
		if c.recorded {
			r.finishImage(c)
		} else {
			r.queueCommit(c.main)
		}
	}
}

// finishImage counts the items of an image after their outcome is recorded. The image is no
// longer in flight.
func (r *run) finishImage(c *commit) {
	r.unassignItems(c.main)
	delete(r.images, c.main)
	if c.main.committed {
		r.toPrune[c.main.repository] = true
	}
	for _, item := range c.items {
		failure := cmp.Or(c.failure, c.tagErrors[item.Tag])
		if errors.Is(failure, oci.ErrNoSpace) {
			r.result.NoSpace++
			for l := range c.main.allLayers() { // another writer took the reserved space
				r.spaceShort[l.Digest] = l.Size
			}
		}
		if errors.Is(failure, storage.ErrUnsent) {
			continue
		}
		log := r.log.With("repo", item.Repository, "tag", item.Tag, "digest", item.Digest)
		if failure != nil {
			r.result.Failed++
			if retry.Permanent(failure) {
				r.result.Permanent++
			}
			r.failed[keyOf(item)] = item.ChangedAt
			r.items.ItemsFailed++
			log.Warn("item is not synced", "err", failure)
			continue
		}
		r.result.Synced++
		r.items.ItemsDone++
		log.Info("item is synced")
	}
}
