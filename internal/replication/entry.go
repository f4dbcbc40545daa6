package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/wire"
)

// note keeps an entry of the stream; a blob that came whole is stored at once.
// The error is an ownError, errGarbled or errEnough.
func (r *run) note(ctx context.Context, p *plan, entry wire.PlanEntry) error {
	switch {
	case entry.Told != nil:
		if !p.told[*entry.Told] {
			p.entries++
		}
		p.settle([]wire.Want{*entry.Told})
	case entry.Missing != nil:
		m := entry.Missing
		if _, known := p.missing[m.Want]; !known {
			p.missing[m.Want] = m.Reason
			p.entries++
			p.held += entryCost + len(m.Reason)
		}
	case entry.Blob != nil:
		if err := r.noteBlob(ctx, p, entry.Blob); err != nil {
			return err
		}
	case entry.Manifest != nil:
		if err := p.noteManifest(entry.Manifest); err != nil {
			return err
		}
	}
	return p.room()
}

func (r *run) noteBlob(ctx context.Context, p *plan, b *wire.PlanBlob) error {
	if _, err := oci.ParseDigest(string(b.Digest)); err != nil || b.Size < 0 || !p.repositories[b.Repository] {
		return fmt.Errorf("plan: %w: blob %s of %d bytes in %s", errGarbled, b.Digest, b.Size, b.Repository)
	}
	if b.Data == nil && b.Size > 0 {
		if _, known := p.sizes[b.Digest]; !known {
			p.sizes[b.Digest] = b.Size
			p.batched[b.Digest] = slices.Contains(b.Ways, wire.Way{Kind: wire.WayBatch})
			p.entries++
			p.held += entryCost
		}
		return nil
	}
	key := wire.Want{Repository: b.Repository, Digest: b.Digest}
	if p.inline[key] {
		return nil
	}
	n := int64(len(b.Data))
	r.meter.add(func(m *Progress) { m.Received += n })
	if b.Digest.Algorithm().FromBytes(b.Data) != b.Digest {
		return fmt.Errorf("plan: %w: the content of blob %s", errGarbled, b.Digest)
	}
	if err := r.keep(ctx, b); err != nil {
		return ownError{err}
	}
	p.inline[key] = true
	p.entries++
	p.held += entryCost
	return nil
}

// keep stores a small blob, unless it is here.
func (r *run) keep(ctx context.Context, b *wire.PlanBlob) error {
	err := r.storage.LinkBlob(ctx, b.Repository, b.Digest)
	if errors.Is(err, oci.ErrBlobUnknown) {
		return r.storage.PutBlob(ctx, b.Repository, b.Digest, b.Data)
	}
	return err
}

func (p *plan) noteManifest(entry *wire.PlanManifest) error {
	m := &planned{PlanManifest: *entry, left: map[digest.Digest]bool{}}
	for _, d := range entry.LeftOut {
		m.left[d] = true
	}
	if _, err := oci.ParseDigest(string(m.Digest)); err != nil || !p.repositories[m.Repository] {
		return fmt.Errorf("plan: %w: manifest %s in %s", errGarbled, m.Digest, m.Repository)
	}
	if m.Digest.Algorithm().FromBytes(m.Payload) != m.Digest {
		return fmt.Errorf("plan: %w: the content of manifest %s", errGarbled, m.Digest)
	}
	if p.manifests[m.want()] != nil {
		return nil
	}
	var err error
	if m.parsed, err = oci.ParseManifest(m.MediaType, m.Payload); err != nil {
		p.missing[m.want()] = err.Error()
		p.entries++
		p.held += entryCost
		return nil
	}
	p.manifests[m.want()] = m
	p.arrived = append(p.arrived, m.want())
	p.entries++
	// What it refers to is held twice: as bytes, and parsed.
	p.held += entryCost + 2*len(m.Payload) + entryCost*len(m.left)
	if m.parsed.Subject != nil {
		subject := wire.Want{Repository: m.Repository, Digest: m.parsed.Subject.Digest}
		p.referrers[subject] = append(p.referrers[subject], m)
	}
	return nil
}

// room returns errEnough when nothing more may be held.
func (p *plan) room() error {
	if p.held < planEnough {
		return nil
	}
	if p.held >= planMost || len(p.told) > 0 {
		return errEnough
	}
	return nil
}

// settle notes that the source said all that it has to say of want.
func (p *plan) settle(want []wire.Want) {
	for _, w := range want {
		if p.wanted[w] {
			p.told[w] = true
		}
	}
}

// open returns the wanted manifests that the source may have more to say of.
func (p *plan) open(images []*image) []wire.Want {
	var open []wire.Want
	for _, im := range images {
		if _, missing := p.missing[im.want()]; !missing && !p.told[im.want()] {
			open = append(open, im.want())
		}
	}
	return open
}

// maxHave is how many manifests a source is told of at most.
const maxHave = 10_000

// known returns the manifests that the source needs not send: have, and those
// that came. What belongs to them is told all the same.
func (p *plan) known(have []wire.Want) []wire.Want {
	all := slices.Concat(have, p.arrived)
	return all[:min(len(all), maxHave)]
}

// split returns the images that the plan is complete for, or says that they
// can't be had, and the others. It leaves no plan without one of the former.
func (p *plan) split(images []*image) (whole, rest []*image) {
	if !p.cut {
		return images, nil
	}
	open := map[wire.Want]bool{}
	for _, want := range p.open(images) {
		open[want] = true
	}
	for _, im := range images {
		if open[im.want()] {
			rest = append(rest, im)
		} else {
			whole = append(whole, im)
		}
	}
	if len(whole) > 0 {
		return whole, rest
	}
	// One image alone is too much. If it came, it is only its referrers that
	// did not all come.
	first := rest[0]
	if i := slices.IndexFunc(rest, func(im *image) bool { return p.manifests[im.want()] != nil }); i >= 0 {
		first = rest[i]
	} else {
		p.missing[first.want()] = fmt.Sprintf("its manifests take more than %d bytes", planMost)
	}
	return []*image{first}, slices.DeleteFunc(rest, func(im *image) bool { return im == first })
}

// have returns the manifests that are worth telling the source of: those that
// the wanted tags' present images are made of, and what is here of the wanted
// ones.
func (r *run) have(ctx context.Context, images []*image) ([]wire.Want, error) {
	all := map[wire.Want]bool{}
	for _, im := range images {
		for _, item := range im.items {
			if item.Tag == "" {
				continue
			}
			m, err := r.storage.Manifest(ctx, item.Repository, item.Tag)
			if e := oci.AsError(err); e != nil && e.Status < 500 {
				continue // the tag is new, or locked
			}
			if err == nil {
				err = r.haveChildren(ctx, item.Repository, m.Digest, all)
			}
			if err != nil {
				return nil, err
			}
		}
		if err := r.haveChildren(ctx, im.repository, im.root, all); err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Keys(all)), nil
}

// absent says why a manifest or a blob that is needed did not come.
func absent(p *plan, what string, repository string, d digest.Digest) error {
	want := wire.Want{Repository: repository, Digest: d}
	reason := p.missing[want]
	if reason == "" {
		reason = "the source did not send it"
	}
	err := fmt.Errorf("%s %s: %s", what, d, reason)
	if p.unheard[want] {
		return err
	}
	return absentError{err}
}
