package replication

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/wire"
)

// An assembly turns a plan into what each image needs.
type assembly struct {
	*run
	plan    *plan
	batcher bool            // the source is one
	fresh   map[*layer]bool // that nobody fetches yet
}

// assemble returns the images with their referrers, and the layers that are
// to be fetched for them, the smallest image's first.
func (r *run) assemble(ctx context.Context, p *plan, images []*image) (parts []*image, layers []*layer, _ error) {
	if err := r.lease(ctx, p); err != nil {
		return nil, nil, err
	}
	a := &assembly{run: r, plan: p, fresh: map[*layer]bool{}}
	_, a.batcher = r.src.(Batcher)
	for _, im := range images {
		if err := a.collect(ctx, im, im.root); err != nil {
			return nil, nil, err
		}
		if err := a.collectReferrers(ctx, im); err != nil {
			return nil, nil, err
		}
		im.size = im.missing()
	}
	bySize(images)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, im := range images {
		for _, part := range im.parts() {
			parts = append(parts, part)
			part.planned = true
			for _, l := range part.order {
				if a.fresh[l] && im.err == nil && part.err == nil {
					delete(a.fresh, l)
					layers = append(layers, l)
				}
			}
		}
	}
	r.images = append(r.images, images...)
	for l := range a.fresh { // only images that can't be whole need it
		delete(r.live, l.digest)
	}
	r.meter.add(func(p *Progress) {
		for _, l := range layers {
			l.expect(p)
		}
	})
	return parts, layers, nil
}

// lease keeps every blob of the plan from collection, before anything relies
// on one that is here.
func (r *run) lease(ctx context.Context, p *plan) error {
	seen := map[digest.Digest]bool{}
	var all []digest.Digest
	for _, m := range p.manifests {
		for _, b := range m.parsed.Blobs() {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b.Digest)
			}
		}
	}
	return r.storage.Lease(ctx, r.own(leaseHolder), leaseTime, all...)
}

// collect adds the manifest d, with what is below it, to im. What is wrong
// with it is im's failure; the error is this registry's.
func (a *assembly) collect(ctx context.Context, im *image, d digest.Digest) error {
	m := a.plan.manifests[wire.Want{Repository: im.repository, Digest: d}]
	if m == nil {
		has, err := a.storage.HasManifest(ctx, im.repository, d)
		if err == nil && !has {
			a.fail(im, absent(a.plan, "manifest", im.repository, d))
		}
		return err
	}
	if im.has[d] {
		return nil
	}
	im.has[d] = true
	comes := func(child oci.Descriptor) bool { return !m.left[child.Digest] }
	if len(m.left) > 0 && !slices.ContainsFunc(m.parsed.Manifests, comes) {
		a.log.Warn("index has nothing for this registry's platforms", "repo", im.repository, "digest", d)
	}
	for _, child := range m.parsed.Manifests {
		if !comes(child) {
			continue
		}
		if err := a.collect(ctx, im, child.Digest); err != nil {
			return err
		}
	}
	for _, b := range m.parsed.Blobs() {
		if err := a.collectBlob(ctx, im, b); err != nil {
			return err
		}
	}
	im.manifests = append(im.manifests, m.PlanManifest)
	return nil
}

func (a *assembly) collectBlob(ctx context.Context, im *image, b oci.Descriptor) error {
	_, err := a.storage.StatBlob(ctx, im.repository, b.Digest)
	if !errors.Is(err, oci.ErrBlobUnknown) {
		return err
	}
	if l := a.join(im, b); l != nil {
		return nil
	}
	has, err := a.storage.HasBlob(ctx, b.Digest)
	if err != nil {
		return err
	}
	if has {
		im.blobs = append(im.blobs, b.Digest)
		return nil
	}
	if a.plan.missing[wire.Want{Repository: im.repository, Digest: b.Digest}] != "" {
		a.fail(im, absent(a.plan, "blob", im.repository, b.Digest))
		return nil
	}
	if err := a.larder.open(b.Digest); err != nil {
		a.fail(im, err)
		return nil
	}
	size, ok := a.plan.sizes[b.Digest]
	if !ok {
		size = b.Size // the source thinks that it is here; the manifest knows its size
	}
	l := &layer{digest: b.Digest, size: size, batch: a.batcher && a.plan.batched[b.Digest]}
	a.fresh[l] = true
	a.mu.Lock()
	a.live[b.Digest] = l
	a.mu.Unlock()
	a.join(im, b)
	return nil
}

// join lets im wait for a layer that is on its way, and returns it; nil where
// none is.
func (a *assembly) join(im *image, b oci.Descriptor) *layer {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.live[b.Digest]
	if l == nil || im.layers[l] {
		return l
	}
	im.layers[l], im.doubts[l] = true, l.size != b.Size
	im.order = append(im.order, l)
	l.images = append(l.images, im)
	if a.fresh[l] {
		if !slices.Contains(l.repositories, im.repository) {
			l.repositories = append(l.repositories, im.repository)
		}
	} else {
		im.blobs = append(im.blobs, b.Digest) // its commit may not know of this repository
	}
	return l
}

func (a *assembly) fail(im *image, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	im.fail(err)
}

// collectReferrers adds the referrers of im's manifests, and theirs, as
// images that follow im, but for those that are wanted for themselves.
func (a *assembly) collectReferrers(ctx context.Context, im *image) error {
	queue := slices.Clone(im.manifests)
	taken := map[digest.Digest]bool{}
	for len(queue) > 0 {
		subject := wire.Want{Repository: im.repository, Digest: queue[0].Digest}
		queue = queue[1:]
		for _, m := range a.plan.referrers[subject] {
			if taken[m.Digest] || a.plan.wanted[m.want()] {
				continue
			}
			taken[m.Digest] = true
			part := newImage(im.repository, m.Digest)
			part.after = im
			if err := a.collect(ctx, part, m.Digest); err != nil {
				return err
			}
			im.referrers = append(im.referrers, part)
			queue = append(queue, part.manifests...)
		}
	}
	return nil
}
