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

// An assembly turns a plan into what each image lacks.
type assembly struct {
	*run
	plan    *plan
	batches bool                   // the source can send several blobs in one answer
	linked  map[Ref]bool           // blobs that are in a repository or not
	present map[digest.Digest]bool // blobs that are here or not, in whatever repository
}

// assemble fills in the plan's images with their referrers, the smallest
// first, so that something useful lands early.
func (r *run) assemble(ctx context.Context, p *plan) error {
	if err := r.lease(ctx, p); err != nil {
		return err
	}
	a := &assembly{run: r, plan: p, linked: map[Ref]bool{}, present: map[digest.Digest]bool{}}
	_, a.batches = r.src.(download.Batcher)
	for _, im := range p.images {
		if err := a.collect(ctx, im, im.root); err != nil {
			return err
		}
		if err := a.collectReferrers(ctx, im); err != nil {
			return err
		}
	}
	slices.SortStableFunc(p.images, func(x, y *image) int { return cmp.Compare(x.bytes(), y.bytes()) })
	return nil
}

// lease keeps every blob of the plan from collection, before anything relies
// on one that is here.
func (r *run) lease(ctx context.Context, p *plan) error {
	var all []digest.Digest
	for _, m := range p.manifests {
		for _, b := range m.parsed.Blobs() {
			all = append(all, b.Digest)
		}
	}
	slices.Sort(all)
	return r.storage.Lease(ctx, r.own(leaseHolder), leaseTime, slices.Compact(all)...)
}

// collect adds the manifest d, with what is below it, to im. What is wrong
// with it is im's failure; the error is this registry's.
func (a *assembly) collect(ctx context.Context, im *image, d digest.Digest) error {
	ref := Ref{Repository: im.repository, Digest: d}
	m := a.plan.manifests[ref]
	if m == nil {
		has, err := a.storage.HasManifest(ctx, im.repository, d)
		if err == nil && !has {
			im.err = cmp.Or(im.err, a.plan.absent("manifest", ref))
		}
		return err
	}
	if im.has[d] {
		return nil
	}
	im.has[d] = true
	comes := func(child oci.Descriptor) bool { return !m.omitted[child.Digest] }
	if len(m.omitted) > 0 && !slices.ContainsFunc(m.parsed.Manifests, comes) {
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

// collectBlob adds a blob to what im lacks, unless it is here, or may be absent
// and is at the source, too. If the manifest says another size than the source,
// the manifest is wrong, and other images that have the blob are not.
func (a *assembly) collectBlob(ctx context.Context, im *image, b oci.Descriptor) error {
	ref := Ref{Repository: im.repository, Digest: b.Digest}
	optional := oci.MayBeAbsent(b)
	if optional && !a.plan.offered[ref] {
		return nil
	}
	if linked, err := a.isLinked(ctx, ref); err != nil || linked {
		return err
	}
	elsewhere, err := a.has(ctx, b.Digest)
	if err != nil {
		return err
	}
	planned, known := a.plan.blobs[b.Digest]
	if known && !elsewhere && planned.Size != b.Size {
		if optional {
			return nil
		}
		im.err = cmp.Or(im.err, wrongSize(b, planned.Size))
		return nil
	}
	n := need{Descriptor: b, elsewhere: elsewhere, optional: optional, batch: a.batches && planned.Batch}
	if a.plan.missing[ref] != nil {
		n.missing = a.plan.absent("blob", ref)
	}
	im.needs = append(im.needs, n)
	return nil
}

// isLinked reports whether a blob is in its repository.
func (a *assembly) isLinked(ctx context.Context, ref Ref) (bool, error) {
	if linked, known := a.linked[ref]; known {
		return linked, nil
	}
	_, err := a.storage.StatBlob(ctx, ref.Repository, ref.Digest)
	linked := err == nil
	if errors.Is(err, oci.ErrBlobUnknown) {
		err = nil
	}
	if err == nil {
		a.linked[ref] = linked
	}
	return linked, err
}

// has reports whether a blob is here, in whatever repository.
func (a *assembly) has(ctx context.Context, d digest.Digest) (bool, error) {
	if has, known := a.present[d]; known {
		return has, nil
	}
	has, err := a.storage.HasBlob(ctx, d)
	if err == nil {
		a.present[d] = has
	}
	return has, err
}

// collectReferrers adds the referrers of im's manifests, and theirs, as
// images that follow im, except those that are wanted for themselves.
func (a *assembly) collectReferrers(ctx context.Context, im *image) error {
	queue := slices.Clone(im.manifests)
	taken := map[digest.Digest]bool{}
	for len(queue) > 0 {
		subject := queue[0].Ref
		queue = queue[1:]
		for _, m := range a.plan.referrers[subject] {
			if taken[m.Digest] || a.plan.wanted[m.Ref] {
				continue
			}
			taken[m.Digest] = true
			part := newImage(im.repository, m.Digest)
			part.subject = im
			if err := a.collect(ctx, part, m.Digest); err != nil {
				return err
			}
			im.referrers = append(im.referrers, part)
			queue = append(queue, part.manifests...)
		}
	}
	return nil
}
