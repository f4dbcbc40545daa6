package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptrace"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// Limits on what a plan holds in memory, in bytes.
const (
	// planEnough is how much of several images is held; the others' plan is
	// asked for later.
	planEnough = 4 << 20
	// planMax is how much one image's plan may have.
	planMax = 24 << 20
	// entryCost is what an entry takes beside its payload, roughly.
	entryCost = 512
)

// planTries is how often in a row a source may break off the plan of one
// image before that fails.
const planTries = 5

// planPatience is how many times the stall timeout may pass between two
// entries of a plan: an entry can be large, and its bytes are not seen here.
const planPatience = 5

// maxHave is how many manifests a source is told of at most.
const maxHave = 10_000

// errEnough ends a plan of which as much came as fits.
var errEnough = errors.New("the plan is long enough")

// A plan is what a source said is needed for some images. It grows from one
// try to the next: what came once is not asked for again.
type plan struct {
	images  []*image // for which it is complete
	rest    []*image // that must be planned again
	refused error    // the source answers no plan

	repositories map[string]bool // of the images
	wanted       map[Ref]bool
	manifests    map[Ref]*plannedManifest
	blobs        map[digest.Digest]PlanBlob // the layers
	missing      map[Ref]error              // what the source does not have, and why
	referrers    map[Ref][]*plannedManifest // by subject, in the order of the stream
	offered      map[Ref]bool               // blobs that the source said it has, or sent
	small        []storage.SmallBlob        // of these, those that are not stored yet
	smallBytes   int                        // of their content
	complete     map[Ref]bool               // wanted ones of which the source said all it has to say
	displaced    []displaced                // images of earlier plans that must leave their room to smaller ones
	short        map[digest.Digest]int64    // what images lack for which the disk has no room
	entries      int                        // that were new
	held         int                        // bytes
	cut          bool                       // there is more at the source than fits
}

// plannedManifest is a manifest of the plan.
type plannedManifest struct {
	PlanManifest
	parsed  *oci.Manifest
	omitted map[digest.Digest]bool
}

func newPlan(images []*image) *plan {
	p := &plan{
		repositories: map[string]bool{}, wanted: map[Ref]bool{}, manifests: map[Ref]*plannedManifest{},
		blobs: map[digest.Digest]PlanBlob{}, missing: map[Ref]error{}, referrers: map[Ref][]*plannedManifest{},
		offered: map[Ref]bool{}, complete: map[Ref]bool{},
		short: map[digest.Digest]int64{},
	}
	for _, im := range images {
		p.repositories[im.repository] = true
		p.wanted[im.ref()] = true
	}
	return p
}

// plan asks the source what is needed for images, stores what is small, and
// finds out what each image lacks. The error is ctx's, or this registry's own.
func (r *run) plan(ctx context.Context, images []*image) (*plan, error) {
	p := newPlan(images)
	if err := r.ask(ctx, p, images); err != nil {
		return nil, err
	}
	if p.refused != nil {
		p.rest = images
		return p, nil
	}
	p.split(images)
	if err := r.assemble(ctx, p); err != nil {
		return nil, err
	}
	return p, r.fit(ctx, p)
}

// ask asks the source what is needed for the images, again and again while
// the link is bad, until ctx ends or the source refuses.
func (r *run) ask(ctx context.Context, p *plan, images []*image) error {
	have, err := r.have(ctx, images)
	if err != nil {
		return err
	}
	vain, limit := 0, len(images)
	for {
		want := p.open(images)
		if len(want) == 0 {
			return nil
		}
		some := want[:min(limit, len(want))]
		if err := r.download.WaitForLink(ctx); err != nil {
			return err
		}
		before := p.entries
		began, err := r.askOnce(ctx, p, some, p.known(have))
		switch {
		case err == nil && len(some) == len(want):
			return nil
		case err == nil:
			p.markComplete(some...)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &download.LocalError{}):
			return err
		case errors.Is(err, errEnough):
			p.cut = true
			return nil
		case r.download.IsFinal(err):
			p.refused = err
			return nil
		}
		if err == nil || p.entries > before {
			vain, limit = 0, min(2*limit, len(images))
			continue
		}
		r.log.Debug("plan is asked for again", "err", err)
		r.download.RequestFailed(err)
		if !began || retry.Answered(err) {
			continue // it is the link, or all of the source, and no fault of the plan's
		}
		// The source breaks off within one of these: find out which.
		if vain++; limit > 1 && vain >= planTries/2 {
			vain, limit = 0, limit/2
		} else if vain == planTries {
			vain = 0
			p.missing[some[0]] = err
		}
	}
}

// askOnce adds what the source streams to p. It reports whether the source
// began to answer.
func (r *run) askOnce(ctx context.Context, p *plan, want, have []Ref) (began bool, err error) {
	ctx, watchdog := retry.Watch(ctx, planPatience*r.stall)
	defer watchdog.Stop()
	var answer atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { answer.Store(true) }})
	err = r.src.Plan(ctx, want, have, func(entry PlanEntry) error {
		watchdog.Reset(planPatience * r.stall)
		r.download.RequestSucceeded()
		answer.Store(true)
		return r.note(ctx, p, entry)
	})
	err = watchdog.Cause(err)
	// What came is kept, however the stream ended.
	if stored := r.storeSmall(ctx, p); stored != nil {
		err = stored
	}
	return answer.Load(), err
}

// probe asks the source for the plan of an image of which a layer fails again
// and again, so that it is known whether the link is at fault.
func (r *run) probe(ctx context.Context, im *image) {
	if r.download.WaitForLink(ctx) != nil {
		return
	}
	ctx, watchdog := retry.Watch(ctx, planPatience*r.stall)
	defer watchdog.Stop()
	err := r.src.Plan(ctx, []Ref{im.ref()}, nil, func(PlanEntry) error {
		r.download.RequestSucceeded()
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) && ctx.Err() == nil {
		r.download.RequestFailed(err)
	}
}

// have returns the manifests that are worth telling the source of: those that
// the wanted tags' present images are made of, and what is here of the wanted
// ones.
func (r *run) have(ctx context.Context, images []*image) ([]Ref, error) {
	all := map[Ref]bool{}
	for _, im := range images {
		for _, tag := range im.tags {
			m, err := r.storage.Manifest(ctx, im.repository, tag)
			if e := oci.AsError(err); e != nil && e.Status < 500 {
				continue // the tag is new, or locked
			}
			if err == nil {
				err = r.haveChildren(ctx, im.repository, m.Digest, all)
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

// haveChildren adds the manifests to all that an index holds, for which the
// source need not be asked. What it holds of indexes within it may be more or
// less than it should be.
func (r *run) haveChildren(ctx context.Context, repository string, d digest.Digest, all map[Ref]bool) error {
	if len(all) >= maxHave {
		return nil
	}
	held, err := r.storage.Held(ctx, repository, d)
	for _, child := range held {
		m, err := r.storage.DescribeManifest(ctx, repository, child)
		if errors.Is(err, oci.ErrManifestUnknown) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		whole, err := r.storage.IsWhole(ctx, repository, child)
		if err != nil {
			return err
		}
		if whole && !oci.IsIndex(m.MediaType) {
			all[Ref{Repository: repository, Digest: child}] = true
		}
	}
	return err
}

// markComplete notes that the source said all that it has to say of want.
func (p *plan) markComplete(want ...Ref) {
	for _, w := range want {
		if p.wanted[w] && !p.complete[w] {
			p.complete[w] = true
			p.entries++
		}
	}
}

// open returns the wanted manifests that the source may have more to say of.
func (p *plan) open(images []*image) []Ref {
	var open []Ref
	for _, im := range images {
		if p.missing[im.ref()] == nil && !p.complete[im.ref()] {
			open = append(open, im.ref())
		}
	}
	return open
}

// known returns the manifests that the source need not send: have, and those
// that came. It says what belongs to them all the same.
func (p *plan) known(have []Ref) []Ref {
	all := slices.AppendSeq(slices.Clone(have), maps.Keys(p.manifests))
	return all[:min(len(all), maxHave)]
}

// split tells the images for which the plan is complete, or which cannot be
// had, from the others. At least one is of the former.
func (p *plan) split(images []*image) {
	if !p.cut {
		p.images = images
		return
	}
	open := map[Ref]bool{}
	for _, want := range p.open(images) {
		open[want] = true
	}
	for _, im := range images {
		if open[im.ref()] {
			p.rest = append(p.rest, im)
		} else {
			p.images = append(p.images, im)
		}
	}
	if len(p.images) > 0 {
		return
	}
	// One image alone is too much. If it came, it is only its referrers that
	// did not all come.
	first := p.rest[0]
	if i := slices.IndexFunc(p.rest, func(im *image) bool { return p.manifests[im.ref()] != nil }); i >= 0 {
		first = p.rest[i]
	} else {
		p.missing[first.ref()] = absent("its manifests take more than %d bytes", planMax)
	}
	p.images = []*image{first}
	p.rest = slices.DeleteFunc(p.rest, func(im *image) bool { return im == first })
}

// absent says why a manifest or a blob that is needed did not come.
func (p *plan) absent(what string, ref Ref) error {
	reason := p.missing[ref]
	if reason == nil {
		reason = absent("the source did not send it")
	}
	return fmt.Errorf("%s %s: %w", what, ref.Digest, reason)
}
