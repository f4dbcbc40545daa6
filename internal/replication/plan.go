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

// Limits on the memory that a plan takes, in bytes.
const (
	// planSoftLimit ends a plan that has all entries of at least one image. The other
	// images are planned later.
	planSoftLimit = 4 << 20
	// planHardLimit ends any plan, so it limits the plan of one image.
	planHardLimit = 24 << 20
	// entryOverhead is the approximate memory of an entry without its payload.
	entryOverhead = 512
)

// planTries is how often in a row a source may break off within the plan of one image
// before that image fails.
const planTries = 5

// planStallFactor is how many stall timeouts may pass between two entries of a plan. An entry
// can be large, and only its end is noticed.
const planStallFactor = 5

// maxHave is the largest number of stored manifests that a plan request names.
const maxHave = 10_000

// errPlanFull ends the stream of a plan that has reached a memory limit.
var errPlanFull = errors.New("the plan is long enough")

// A plan lists everything that some images need, according to the source. It collects the
// entries of several requests: an entry that was received is not requested again.
type plan struct {
	complete   []*image // images of which all entries were received, or that failed
	incomplete []*image // images to plan again
	refused    error    // the source refuses plans permanently

	repositories map[string]bool // of the images
	wanted       map[Ref]bool    // root manifests of the images
	manifests    map[Ref]*plannedManifest
	blobs        map[digest.Digest]PlanBlob // blobs without data
	missing      map[Ref]error              // why the source does not send something
	referrers    map[Ref][]*plannedManifest // by subject, in the order of the stream
	available    map[Ref]bool               // blobs that the source has or sent
	smallBlobs   []storage.SmallBlob        // received and not stored yet
	smallBytes   int                        // size of smallBlobs
	completed    map[Ref]bool               // wanted manifests of which all entries were received
	evicted      []evicted                  // images of earlier plans that lose their disk space to smaller ones
	spaceShort   map[digest.Digest]int64    // disk space that blobs lack, in bytes
	entries      int                        // number of new entries
	memory       int                        // bytes
	truncated    bool                       // a memory limit ended the plan
}

// A plannedManifest is a manifest of the plan.
type plannedManifest struct {
	PlanManifest
	parsed  *oci.Manifest
	omitted map[digest.Digest]bool // OmittedChildren as a set
}

func newPlan(images []*image) *plan {
	p := &plan{
		repositories: map[string]bool{}, wanted: map[Ref]bool{}, manifests: map[Ref]*plannedManifest{},
		blobs: map[digest.Digest]PlanBlob{}, missing: map[Ref]error{}, referrers: map[Ref][]*plannedManifest{},
		available: map[Ref]bool{}, completed: map[Ref]bool{},
		spaceShort: map[digest.Digest]int64{},
	}
	for _, im := range images {
		p.repositories[im.repository] = true
		p.wanted[im.ref()] = true
	}
	return p
}

// plan requests the plan of images from the source, stores the small blobs that come with
// it, compares it with this registry's content, and reserves disk space for the missing
// blobs. The error is ctx's cause, or a failure of this registry.
func (r *run) plan(ctx context.Context, images []*image) (*plan, error) {
	p := newPlan(images)
	if err := r.requestPlan(ctx, p, images); err != nil {
		return nil, err
	}
	if p.refused != nil {
		p.incomplete = images
		return p, nil
	}
	p.splitComplete(images)
	if err := r.findMissing(ctx, p); err != nil {
		return nil, err
	}
	return p, r.reserveSpace(ctx, p)
}

// requestPlan requests the plan of images, again and again while the link is bad, until
// the plan is complete or full, ctx ends, or the source refuses.
//
// If the source repeatedly breaks off within the plan of some images, it halves the number
// of images per request. An image at which the source breaks off by itself fails.
func (r *run) requestPlan(ctx context.Context, p *plan, images []*image) error {
	have, err := r.heldManifests(ctx, images)
	if err != nil {
		return err
	}
	fruitless, limit := 0, len(images)
	for {
		want := p.unfinishedWants(images)
		if len(want) == 0 {
			return nil
		}
		some := want[:min(limit, len(want))]
		if err := r.download.WaitForLink(ctx); err != nil {
			return err
		}
		before := p.entries
		answered, err := r.requestPlanOnce(ctx, p, some, p.haveWithReceived(have))
		switch {
		case err == nil && len(some) == len(want):
			return nil
		case err == nil:
			p.markComplete(some...)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &download.LocalError{}):
			return err
		case errors.Is(err, errPlanFull):
			p.truncated = true
			return nil
		case r.download.IsFinal(err):
			p.refused = err
			return nil
		}
		if err == nil || p.entries > before {
			fruitless, limit = 0, min(2*limit, len(images))
			continue
		}
		r.log.Debug("plan is requested again", "err", err)
		r.download.RequestFailed(err)
		if !answered || retry.Answered(err) {
			continue // the link or the source as a whole is at fault, not an image
		}
		if fruitless++; limit > 1 && fruitless >= planTries/2 {
			fruitless, limit = 0, limit/2
		} else if fruitless == planTries {
			fruitless = 0
			p.missing[some[0]] = err
		}
	}
}

// requestPlanOnce makes one request and adds the entries that the source streams to p. It
// reports whether the source began to answer.
func (r *run) requestPlanOnce(ctx context.Context, p *plan, want, have []Ref) (answered bool, err error) {
	ctx, watchdog := retry.Watch(ctx, planStallFactor*r.stallTimeout)
	defer watchdog.Stop()
	var began atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { began.Store(true) }})
	err = r.src.Plan(ctx, want, have, func(entry PlanEntry) error {
		watchdog.Reset(planStallFactor * r.stallTimeout)
		r.download.RequestSucceeded()
		began.Store(true)
		return r.addEntry(ctx, p, entry)
	})
	err = watchdog.Cause(err)
	// Received blobs are kept, however the stream ended.
	if storeErr := r.storeSmallBlobs(ctx, p); storeErr != nil {
		err = storeErr
	}
	return began.Load(), err
}

// probeLink requests the plan of an image of which a layer keeps failing, so that the
// downloader learns whether other requests succeed.
func (r *run) probeLink(ctx context.Context, im *image) {
	if r.download.WaitForLink(ctx) != nil {
		return
	}
	ctx, watchdog := retry.Watch(ctx, planStallFactor*r.stallTimeout)
	defer watchdog.Stop()
	err := r.src.Plan(ctx, []Ref{im.ref()}, nil, func(PlanEntry) error {
		r.download.RequestSucceeded()
		return errPlanFull
	})
	if err != nil && !errors.Is(err, errPlanFull) && ctx.Err() == nil {
		r.download.RequestFailed(err)
	}
}

// heldManifests returns manifests that the source need not send, because they are stored: those below
// the images that the wanted tags name now, and below the wanted images.
func (r *run) heldManifests(ctx context.Context, images []*image) ([]Ref, error) {
	all := map[Ref]bool{}
	for _, im := range images {
		for _, tag := range im.tags {
			m, err := r.storage.Unlocked().Manifest(ctx, im.repository, tag)
			if e := oci.AsError(err); e != nil && e.Status < 500 {
				continue // the tag is new
			}
			if err == nil {
				err = r.addHeldChildren(ctx, im.repository, m.Digest, all)
			}
			if err != nil {
				return nil, err
			}
		}
		if err := r.addHeldChildren(ctx, im.repository, im.root, all); err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Keys(all)), nil
}

// addHeldChildren adds the image manifests that an index holds to all. It leaves out indexes
// within the index, because their children here may differ from those at the source.
func (r *run) addHeldChildren(ctx context.Context, repository string, d digest.Digest, all map[Ref]bool) error {
	if len(all) >= maxHave {
		return nil
	}
	children, err := r.storage.HeldChildren(ctx, repository, d)
	for _, child := range children {
		m, err := r.storage.DescribeManifest(ctx, repository, child)
		if errors.Is(err, oci.ErrManifestUnknown) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return err
		}
		whole, err := r.hasAllBlobs(ctx, repository, child)
		if err != nil {
			return err
		}
		if whole && !oci.IsIndex(m.MediaType) {
			all[Ref{Repository: repository, Digest: child}] = true
		}
	}
	return err
}

// markComplete records that all entries of wanted manifests were received.
func (p *plan) markComplete(want ...Ref) {
	for _, w := range want {
		if p.wanted[w] && !p.completed[w] {
			p.completed[w] = true
			p.entries++
		}
	}
}

// unfinishedWants returns the wanted manifests for which the source may have more entries.
func (p *plan) unfinishedWants(images []*image) []Ref {
	var open []Ref
	for _, im := range images {
		if p.missing[im.ref()] == nil && !p.completed[im.ref()] {
			open = append(open, im.ref())
		}
	}
	return open
}

// haveWithReceived adds the received manifests to have. The source still sends entries that
// belong to them.
func (p *plan) haveWithReceived(have []Ref) []Ref {
	all := slices.AppendSeq(slices.Clone(have), maps.Keys(p.manifests))
	return all[:min(len(all), maxHave)]
}

// splitComplete separates the images of which all entries were received, or that the
// source lacks, from the others. At least one image is complete afterwards: if the plan of
// a single image is too large, that image is taken without the referrers that did not fit
// or, if its own manifests did not fit, it fails.
func (p *plan) splitComplete(images []*image) {
	if !p.truncated {
		p.complete = images
		return
	}
	open := map[Ref]bool{}
	for _, want := range p.unfinishedWants(images) {
		open[want] = true
	}
	for _, im := range images {
		if open[im.ref()] {
			p.incomplete = append(p.incomplete, im)
		} else {
			p.complete = append(p.complete, im)
		}
	}
	if len(p.complete) > 0 {
		return
	}
	first := p.incomplete[0]
	hasRoot := func(im *image) bool { return p.manifests[im.ref()] != nil }
	if i := slices.IndexFunc(p.incomplete, hasRoot); i >= 0 {
		first = p.incomplete[i]
	} else {
		p.missing[first.ref()] = unavailable("its manifests take more than %d bytes", planHardLimit)
	}
	p.complete = []*image{first}
	p.incomplete = slices.DeleteFunc(p.incomplete, func(im *image) bool { return im == first })
}

// reasonMissing returns why a needed manifest or blob was not received. kind is "manifest"
// or "blob".
func (p *plan) reasonMissing(kind string, ref Ref) error {
	reason := p.missing[ref]
	if reason == nil {
		reason = unavailable("the source did not send it")
	}
	return fmt.Errorf("%s %s: %w", kind, ref.Digest, reason)
}
