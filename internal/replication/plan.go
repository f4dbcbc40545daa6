package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/oci"
)

// A plan is what a source said is needed for a batch of images.
type plan struct {
	manifests map[gateway.Want]*planned
	sizes     map[digest.Digest]int64     // of the layers
	missing   map[gateway.Want]string     // what the source does not have, and why
	referrers map[gateway.Want][]*planned // by subject, in the order of the stream
	layers    map[digest.Digest]*layer    // what is to be fetched
	order     []*layer
}

// planned is a manifest of the plan.
type planned struct {
	gateway.PlanManifest
	parsed *oci.Manifest
}

func (m *planned) want() gateway.Want {
	return gateway.Want{Repository: m.Repository, Digest: m.Digest}
}

// askPlan asks the source what is needed for the images, again and again
// while the link is bad, until ctx ends or the source refuses.
func (e *Engine) askPlan(ctx context.Context, src Source, images []*image) (*plan, error) {
	have, err := e.have(ctx, images)
	if err != nil {
		return nil, err
	}
	var want []gateway.Want
	for _, im := range images {
		want = append(want, gateway.Want{Repository: im.repository, Digest: im.root})
	}
	patience := newPatience()
	for {
		p := &plan{
			manifests: map[gateway.Want]*planned{}, sizes: map[digest.Digest]int64{}, missing: map[gateway.Want]string{},
			referrers: map[gateway.Want][]*planned{}, layers: map[digest.Digest]*layer{},
		}
		err := src.Plan(ctx, want, have, func(entry gateway.PlanEntry) error {
			patience.reset()
			return e.note(ctx, p, entry)
		})
		if err == nil || permanent(err) {
			return p, err
		}
		if err := patience.wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// note keeps an entry of the stream; what came whole is stored at once.
func (e *Engine) note(ctx context.Context, p *plan, entry gateway.PlanEntry) error {
	switch {
	case entry.Missing != nil:
		p.missing[entry.Missing.Want] = entry.Missing.Reason
	case entry.Blob != nil && (entry.Blob.Data != nil || entry.Blob.Size == 0):
		b := entry.Blob
		e.meter.received.Add(int64(len(b.Data)))
		if err := e.storage.Lease(ctx, leaseHolder, leaseTime, b.Digest); err != nil {
			return err
		}
		return e.storage.PutBlob(ctx, b.Repository, b.Digest, b.Data)
	case entry.Blob != nil:
		p.sizes[entry.Blob.Digest] = entry.Blob.Size
	case entry.Manifest != nil:
		m := &planned{PlanManifest: *entry.Manifest}
		var err error
		if m.parsed, err = oci.ParseManifest(m.MediaType, m.Payload); err != nil {
			p.missing[m.want()] = err.Error()
			return nil
		}
		p.manifests[m.want()] = m
		if m.parsed.Subject != nil {
			subject := gateway.Want{Repository: m.Repository, Digest: m.parsed.Subject.Digest}
			p.referrers[subject] = append(p.referrers[subject], m)
		}
	}
	return nil
}

// assemble turns the plan into what each image needs, and its layers into
// what is to be fetched, the smallest image's first. It returns the images
// and their referrers.
func (e *Engine) assemble(ctx context.Context, p *plan, images []*image) ([]*image, error) {
	roots := map[gateway.Want]bool{}
	for _, im := range images {
		roots[gateway.Want{Repository: im.repository, Digest: im.root}] = true
	}
	for _, im := range images {
		if err := e.collect(ctx, p, im, im.root); err != nil {
			return nil, err
		}
		if err := e.collectReferrers(ctx, p, im, roots); err != nil {
			return nil, err
		}
		im.size = im.missing()
	}
	bySize(images)
	var all []*image
	var leased []digest.Digest
	for _, im := range images {
		for _, part := range append([]*image{im}, im.referrers...) {
			all = append(all, part)
			leased = append(leased, part.blobs...)
			for _, l := range part.order {
				leased = append(leased, l.digest)
				l.images = append(l.images, part)
				if !slices.Contains(l.repositories, part.repository) {
					l.repositories = append(l.repositories, part.repository)
				}
				if !l.queued {
					l.queued = true
					p.order = append(p.order, l)
					e.meter.bytesTotal.Add(l.size)
				}
			}
		}
	}
	return all, e.storage.Lease(ctx, leaseHolder, leaseTime, leased...)
}

// collect adds the manifest d, with what is below it, to im. What is wrong
// with it is im's failure; the error is this registry's.
func (e *Engine) collect(ctx context.Context, p *plan, im *image, d digest.Digest) error {
	want := gateway.Want{Repository: im.repository, Digest: d}
	m := p.manifests[want]
	if m == nil {
		has, err := e.storage.HasManifest(ctx, im.repository, d)
		if err == nil && !has {
			im.fail(absent(p, want))
		}
		return err
	}
	if slices.ContainsFunc(im.manifests, func(o gateway.PlanManifest) bool { return o.Digest == d }) {
		return nil
	}
	for _, child := range m.parsed.Manifests {
		if child.Digest == d {
			continue // no digest can be its own child; a hostile source may say so
		}
		if err := e.collect(ctx, p, im, child.Digest); err != nil {
			return err
		}
	}
	for _, b := range m.parsed.Blobs() {
		if err := e.collectBlob(ctx, p, im, b); err != nil {
			return err
		}
	}
	im.manifests = append(im.manifests, m.PlanManifest)
	return nil
}

func (e *Engine) collectBlob(ctx context.Context, p *plan, im *image, b oci.Descriptor) error {
	_, err := e.storage.StatBlob(ctx, im.repository, b.Digest)
	if !errors.Is(err, oci.ErrBlobUnknown) {
		return err
	}
	has, err := e.storage.HasBlob(ctx, b.Digest)
	if err != nil {
		return err
	}
	if has {
		im.blobs = append(im.blobs, b.Digest)
		return nil
	}
	l := p.layers[b.Digest]
	if l == nil {
		size, ok := p.sizes[b.Digest]
		if !ok {
			size = b.Size // the source thinks that it is here; the manifest knows its size
		}
		l = &layer{digest: b.Digest, size: size}
		p.layers[b.Digest] = l
	}
	if !im.layers[l] {
		im.layers[l] = true
		im.order = append(im.order, l)
	}
	return nil
}

// collectReferrers adds the referrers of im's manifests, and theirs, as
// images that follow im, but for those that are wanted for themselves.
func (e *Engine) collectReferrers(ctx context.Context, p *plan, im *image, roots map[gateway.Want]bool) error {
	queue := slices.Clone(im.manifests)
	taken := map[digest.Digest]bool{}
	for len(queue) > 0 {
		subject := gateway.Want{Repository: im.repository, Digest: queue[0].Digest}
		queue = queue[1:]
		for _, m := range p.referrers[subject] {
			if taken[m.Digest] || roots[m.want()] {
				continue
			}
			taken[m.Digest] = true
			r := &image{repository: im.repository, root: m.Digest, after: im, layers: map[*layer]bool{}}
			if err := e.collect(ctx, p, r, m.Digest); err != nil {
				return err
			}
			im.referrers = append(im.referrers, r)
			queue = append(queue, r.manifests...)
		}
	}
	return nil
}

// absent says why a manifest that is needed did not come.
func absent(p *plan, want gateway.Want) error {
	reason := p.missing[want]
	if reason == "" {
		reason = "the source did not send it"
	}
	return fmt.Errorf("manifest %s: %s", want.Digest, reason)
}
