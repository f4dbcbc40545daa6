package replication

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/oci"
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

// planTries is how often in a row a source may garble a plan in the same
// place before what it was about to send is given up.
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
	wanted       map[gateway.Want]bool
	manifests    map[gateway.Want]*planned
	arrived      []gateway.Want              // their keys, in the order of the stream
	sizes        map[digest.Digest]int64     // of the layers
	missing      map[gateway.Want]string     // what the source does not have, and why
	referrers    map[gateway.Want][]*planned // by subject, in the order of the stream
	inline       map[gateway.Want]bool       // blobs whose content came
	entries      int                         // that were new
	held         int                         // bytes
	cut          bool                        // there is more at the source than fits
}

// planned is a manifest of the plan.
type planned struct {
	gateway.PlanManifest
	parsed *oci.Manifest
}

func (m *planned) want() gateway.Want {
	return gateway.Want{Repository: m.Repository, Digest: m.Digest}
}

func newPlan(images []*image) *plan {
	p := &plan{
		repositories: map[string]bool{}, wanted: map[gateway.Want]bool{}, manifests: map[gateway.Want]*planned{},
		sizes: map[digest.Digest]int64{}, missing: map[gateway.Want]string{}, referrers: map[gateway.Want][]*planned{},
		inline: map[gateway.Want]bool{},
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
	for vain := 0; ; {
		want := p.open(images)
		if len(want) == 0 {
			return p, nil
		}
		if err := r.link.wait(ctx); err != nil {
			return nil, err
		}
		before := p.entries
		err := r.askOnce(ctx, p, want, p.known(have))
		switch own := (ownError{}); {
		case err == nil:
			return p, nil
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
		if p.entries > before {
			vain = 0
			continue
		}
		r.log.Debug("plan is asked for again", "err", err)
		r.link.failed(pause(err))
		if status(err) != 0 || linkDown(err) {
			continue // it is not this plan's fault
		}
		if vain++; vain == planTries {
			vain = 0
			p.missing[want[0]] = err.Error()
		}
	}
}

// askOnce adds what the source streams to p.
func (r *run) askOnce(ctx context.Context, p *plan, want, have []gateway.Want) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(planPatience*r.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	err := r.src.Plan(ctx, want, have, func(entry gateway.PlanEntry) error {
		watchdog.Reset(planPatience * r.stall)
		r.link.good()
		return r.note(ctx, p, entry)
	})
	return cause(ctx, err)
}
