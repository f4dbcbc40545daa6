package replication

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// Limits on what a plan holds in memory, in bytes.
const (
	// planEnough is how much of several images is held; the others' plan is
	// asked for later.
	planEnough = 4 << 20
	// planMost is how much one image's plan may have.
	planMost = 32 << 20
	// entryCost is what an entry takes beside its payload, roughly.
	entryCost = 512
)

// planTries is how often in a row a source may break off the plan of one
// image before that is given up.
const planTries = 5

// planPatience is how many times the stall timeout may pass between two
// entries of a plan: an entry can be large, and its bytes are not seen here.
const planPatience = 5

// errEnough ends a plan of which as much came as fits.
var errEnough = errors.New("the plan is long enough")

// A plan is what a source said is needed for some images. It grows from one
// try to the next: what came once is not asked for again.
type plan struct {
	repositories map[string]bool // of the images
	wanted       map[wire.Want]bool
	manifests    map[wire.Want]*planned
	arrived      []wire.Want              // their keys, in the order of the stream
	sizes        map[digest.Digest]int64  // of the layers
	batched      map[digest.Digest]bool   // layers that can come in a batch
	missing      map[wire.Want]string     // what the source does not have, and why
	unheard      map[wire.Want]bool       // of these, what it never told of to the end
	referrers    map[wire.Want][]*planned // by subject, in the order of the stream
	inline       map[wire.Want]bool       // blobs whose content came
	told         map[wire.Want]bool       // wanted ones of which the source said all it has to say
	entries      int                      // that were new
	held         int                      // bytes
	cut          bool                     // there is more at the source than fits
}

// planned is a manifest of the plan.
type planned struct {
	wire.PlanManifest
	parsed *oci.Manifest
	left   map[digest.Digest]bool // children of an index that do not come
}

func (m *planned) want() wire.Want {
	return wire.Want{Repository: m.Repository, Digest: m.Digest}
}

func newPlan(images []*image) *plan {
	p := &plan{
		repositories: map[string]bool{}, wanted: map[wire.Want]bool{}, manifests: map[wire.Want]*planned{},
		sizes: map[digest.Digest]int64{}, batched: map[digest.Digest]bool{}, missing: map[wire.Want]string{}, unheard: map[wire.Want]bool{}, referrers: map[wire.Want][]*planned{},
		inline: map[wire.Want]bool{}, told: map[wire.Want]bool{},
	}
	for _, im := range images {
		p.repositories[im.repository] = true
		p.wanted[im.want()] = true
	}
	return p
}

// ask asks the source what is needed for the images, again and again while
// the link is bad, until ctx ends or the source refuses.
func (r *run) ask(ctx context.Context, images []*image) (*plan, error) {
	have, err := r.have(ctx, images)
	if err != nil {
		return nil, err
	}
	p := newPlan(images)
	vain, limit := 0, len(images)
	for {
		want := p.open(images)
		if len(want) == 0 {
			return p, nil
		}
		some := want[:min(limit, len(want))]
		if err := r.link.wait(ctx); err != nil {
			return nil, err
		}
		before := p.entries
		began, err := r.askOnce(ctx, p, some, p.known(have))
		switch own := (ownError{}); {
		case err == nil && len(some) == len(want):
			return p, nil
		case err == nil:
			p.settle(some)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.As(err, &own):
			return nil, own.error
		case errors.Is(err, errEnough):
			p.cut = true
			return p, nil
		case r.final(err):
			return nil, err
		}
		if err == nil || p.entries > before {
			vain, limit = 0, min(2*limit, len(images))
			continue
		}
		r.log.Debug("plan is asked for again", "err", err)
		r.link.failed(retry.After(err), err)
		if !began || retry.Answered(err) {
			continue // it is the link, or all of the source, and no fault of the plan's
		}
		// The source breaks off while it tells of one of these: find out which.
		if vain++; limit > 1 && vain >= planTries/2 {
			vain, limit = 0, limit/2
		} else if vain == planTries {
			vain = 0
			p.missing[some[0]], p.unheard[some[0]] = err.Error(), true
		}
	}
}

// askOnce adds what the source streams to p. It reports whether the source
// began to answer.
func (r *run) askOnce(ctx context.Context, p *plan, want, have []wire.Want) (began bool, err error) {
	ctx, watchdog := retry.Watch(ctx, planPatience*r.stall)
	defer watchdog.Stop()
	var answer atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { answer.Store(true) }})
	err = r.src.Plan(ctx, want, have, func(entry wire.PlanEntry) error {
		watchdog.Reset(planPatience * r.stall)
		r.link.good()
		answer.Store(true)
		return r.note(ctx, p, entry)
	})
	return answer.Load(), cause(ctx, err)
}
