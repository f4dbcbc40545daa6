package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/oci"
)

// A comparison compares the images of a plan with this registry's content.
type comparison struct {
	*run
	plan         *plan
	batches      bool                   // the source can send blobs in batches
	inRepository map[Ref]bool           // caches isInRepository
	stored       map[digest.Digest]bool // caches isStored
}

// findMissing fills in the manifests, the missing blobs and the referrers of the plan's
// images. It sorts the images by the bytes that they lack, so that the first one is soon
// complete.
func (r *run) findMissing(ctx context.Context, p *plan) error {
	if err := r.leaseBlobs(ctx, p); err != nil {
		return err
	}
	c := &comparison{run: r, plan: p, inRepository: map[Ref]bool{}, stored: map[digest.Digest]bool{}}
	_, c.batches = r.src.(download.Batcher)
	for _, im := range p.complete {
		if err := c.addMissingManifest(ctx, im, im.root); err != nil {
			return err
		}
		if err := c.addReferrers(ctx, im); err != nil {
			return err
		}
	}
	slices.SortStableFunc(p.complete, func(x, y *image) int { return cmp.Compare(x.bytesToFetch(), y.bytesToFetch()) })
	return nil
}

// leaseBlobs protects every blob of the plan from garbage collection. It must precede the check
// whether a blob is stored.
func (r *run) leaseBlobs(ctx context.Context, p *plan) error {
	var all []digest.Digest
	for _, m := range p.manifests {
		for _, b := range m.parsed.Blobs() {
			all = append(all, b.Digest)
		}
	}
	slices.Sort(all)
	return r.storage.Lease(ctx, r.sourceKey(leaseHolder), leaseTime, slices.Compact(all)...)
}

// addMissingManifest adds the manifest d and everything below it to im. If neither the source nor
// this registry has the manifest, im fails. The returned error is a failure of this registry.
func (c *comparison) addMissingManifest(ctx context.Context, im *image, d digest.Digest) error {
	ref := Ref{Repository: im.repository, Digest: d}
	m := c.plan.manifests[ref]
	if m == nil {
		has, err := c.storage.HasManifest(ctx, im.repository, d)
		if err == nil && !has {
			im.err = cmp.Or(im.err, c.plan.reasonMissing("manifest", ref))
		}
		return err
	}
	if im.compared[d] {
		return nil
	}
	im.compared[d] = true
	included := func(child oci.Descriptor) bool { return !m.omitted[child.Digest] }
	if len(m.omitted) > 0 && !slices.ContainsFunc(m.parsed.Manifests, included) {
		c.log.Warn("index has nothing for this registry's platforms", "repo", im.repository, "digest", d)
	}
	for _, child := range m.parsed.Manifests {
		if !included(child) {
			continue
		}
		if err := c.addMissingManifest(ctx, im, child.Digest); err != nil {
			return err
		}
	}
	for _, b := range m.parsed.Blobs() {
		if err := c.addMissingBlob(ctx, im, b); err != nil {
			return err
		}
	}
	im.manifests = append(im.manifests, m.PlanManifest)
	return nil
}

// addMissingBlob adds a blob to im.needed, unless the repository holds it, or it is optional
// and the source does not have it. If the manifest and the source state different sizes,
// the manifest is wrong: im fails, and other images with the blob do not.
func (c *comparison) addMissingBlob(ctx context.Context, im *image, b oci.Descriptor) error {
	ref := Ref{Repository: im.repository, Digest: b.Digest}
	optional := oci.MayBeAbsent(b)
	if optional && !c.plan.available[ref] {
		return nil
	}
	present, err := c.isInRepository(ctx, ref)
	elsewhere := false
	if err == nil && !present {
		elsewhere, err = c.isStored(ctx, b.Digest)
	}
	if err != nil && c.storage.IsFileFailure(ctx, err) {
		im.err = cmp.Or(im.err, err)
		return nil
	}
	if err != nil || present {
		return err
	}
	planned, known := c.plan.blobs[b.Digest]
	if known && !elsewhere && planned.Size != b.Size {
		if optional {
			return nil
		}
		im.err = cmp.Or(im.err, wrongSizeError(b, planned.Size))
		return nil
	}
	n := neededBlob{Descriptor: b, elsewhere: elsewhere, optional: optional, batch: c.batches && planned.Batch}
	if c.plan.missing[ref] != nil {
		n.missing = c.plan.reasonMissing("blob", ref)
	}
	im.needed = append(im.needed, n)
	return nil
}

// isInRepository reports whether a repository holds a blob.
func (c *comparison) isInRepository(ctx context.Context, ref Ref) (bool, error) {
	if present, known := c.inRepository[ref]; known {
		return present, nil
	}
	_, err := c.storage.StatBlob(ctx, ref.Repository, ref.Digest)
	present := err == nil
	if errors.Is(err, oci.ErrBlobUnknown) {
		err = nil
	}
	if err == nil {
		c.inRepository[ref] = present
	}
	return present, err
}

// isStored reports whether any repository holds a blob.
func (c *comparison) isStored(ctx context.Context, d digest.Digest) (bool, error) {
	if has, known := c.stored[d]; known {
		return has, nil
	}
	has, err := c.storage.HasBlob(ctx, d)
	if err == nil {
		c.stored[d] = has
	}
	return has, err
}

// addReferrers adds the referrers of im's manifests, and the referrers of those, as
// images that follow im. It leaves out referrers that are wanted items themselves.
func (c *comparison) addReferrers(ctx context.Context, im *image) error {
	queue := slices.Clone(im.manifests)
	seen := map[digest.Digest]bool{}
	for len(queue) > 0 {
		subject := queue[0].Ref
		queue = queue[1:]
		for _, m := range c.plan.referrers[subject] {
			if seen[m.Digest] || c.plan.wanted[m.Ref] {
				continue
			}
			seen[m.Digest] = true
			referrer := newImage(im.repository, m.Digest)
			referrer.subject = im
			if err := c.addMissingManifest(ctx, referrer, m.Digest); err != nil {
				return err
			}
			im.referrers = append(im.referrers, referrer)
			queue = append(queue, referrer.manifests...)
		}
	}
	return nil
}
