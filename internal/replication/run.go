package replication

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/download"
	"ferry/internal/metadb"
)

// How much on its way in is enough to keep the link busy for the round trips
// of the next plan: so many images or, if they are small, so many bytes, of
// no more images than fit into memory.
const (
	enoughImages = 100
	enoughBytes  = 16 << 20
	maxImages    = 400
)

// leaseTime is how long a sync's blobs and transfers are safe from collection
// without a manifest: a registry may be without its link for a season. What a
// Sync did not ask for again is released at its end.
const leaseTime = 90 * 24 * time.Hour

// leaseHolder is the name that a sync's leases are held in; see [Engine.own].
const leaseHolder = "sync"

// A run is one Sync. Its pipeline owns its state, and holds the engine's lock
// while it handles an event. Jobs that take time run beside it, and return what
// to do with their results.
type run struct {
	*Engine
	src    Source
	result Result
	wake   chan struct{} // tells the pipeline that the list is read anew

	// The engine's lock guards what follows, and every image.
	pending   *pending
	reached   int                      // the priority up to which the list was read
	reading   bool                     // a page of the list
	planning  bool                     // some images
	working   bool                     // a commit runs
	doubted   *image                   // one of which a layer fails again and again
	exhausted bool                     // the list was read to its end
	unplanned []*image                 // read from the list
	images    map[*image]bool          // planned, and not finished
	byItem    map[itemPlace]*image     // that are planned, or being planned
	layers    map[digest.Digest]*layer // on their way
	fresh     []*layer                 // of these, those that the downloader does not know yet
	ready     []*image                 // that are to be committed, or whose outcome is to be noted
	failed    map[itemPlace]time.Time  // items that are not tried again in this run, until they change after that
	refused   error                    // by the source: nothing more is planned
	short     map[digest.Digest]int64  // what images lack for which the disk has no room
	seq       int
}

// An itemPlace is a place in the list of items.
type itemPlace struct{ repository, item string }

func placeOf(row metadb.SyncItem) itemPlace { return itemPlace{row.Repository, row.Item} }

func newRun(e *Engine, src Source) *run {
	r := &run{
		Engine: e, src: src, wake: make(chan struct{}, 1), images: map[*image]bool{},
		byItem: map[itemPlace]*image{}, layers: map[digest.Digest]*layer{}, failed: map[itemPlace]time.Time{},
		short: map[digest.Digest]int64{},
	}
	r.readAgain()
	return r
}

// all transfers what is to come, and removes what left the source.
func (r *run) all(ctx context.Context) error {
	start := r.storage.Uptime()
	if err := r.transfer(ctx); err != nil {
		return err
	}
	if r.prune != PruneNone {
		if err := r.remove(ctx); err != nil {
			return err
		}
	}
	if err := r.measureShort(ctx); err != nil {
		return err
	}
	return r.unlease(ctx, start)
}

// unlease releases what was leased and is not needed any more. What the order
// did not want keeps its leases: other Syncs began it.
func (r *run) unlease(ctx context.Context, start metadb.Uptime) error {
	waiting, err := r.repositories(ctx, metadb.WantedSyncItem)
	if err != nil {
		return err
	}
	order := r.currentOrder()
	for repository := range waiting {
		if _, wanted := order(repository); !wanted {
			return nil
		}
	}
	if r.result.Failed == 0 {
		return r.storage.Release(ctx, r.own(leaseHolder))
	}
	return r.storage.ReleaseStale(ctx, r.own(leaseHolder), start, leaseTime)
}

// transfer runs the pipeline, and the downloader beside it.
func (r *run) transfer(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	results := make(chan download.Result)
	g.Go(func() error { return r.download.Run(ctx, results) })
	g.Go(func() error {
		err := r.pipeline(ctx, g, results)
		stop()
		return err
	})
	return g.Wait()
}

// pipeline is the way of every item: it is read from the list; its image is
// planned, and what it lacks is fetched; once all of it is here, it is made
// visible. Each step has more to do when the one before is done, and the
// pipeline ends when no step has. What is more urgent overtakes in each step.
func (r *run) pipeline(ctx context.Context, g *errgroup.Group, results <-chan download.Result) error {
	events := make(chan func())
	// beside runs a job beside the pipeline, which then calls what it returns.
	beside := func(job func() (event func(), err error)) {
		g.Go(func() error {
			event, err := job()
			if err != nil {
				return err
			}
			select {
			case events <- event:
			case <-ctx.Done():
			}
			return nil
		})
	}
	for {
		r.mu.Lock()
		r.fetchFresh()
		if list := r.nextRead(); list != nil {
			beside(func() (func(), error) {
				p, err := list.next(ctx)
				return func() { r.readPage(p) }, err
			})
		}
		if images := r.nextPlan(); images != nil {
			beside(func() (func(), error) {
				p, err := r.plan(ctx, images)
				return func() { r.admitPlan(p) }, err
			})
		}
		if batch := r.nextCommits(); batch != nil {
			beside(func() (func(), error) {
				err := r.commit(ctx, batch)
				return func() { r.committed(batch) }, err
			})
		}
		if im := r.doubted; im != nil {
			r.doubted = nil
			beside(func() (func(), error) {
				r.probe(ctx, im)
				return func() {}, nil
			})
		}
		more := r.morePlanned()
		r.download.ExpectMore(more)
		done := !more && len(r.images) == 0 && !r.working
		r.mu.Unlock()
		if done {
			return r.refused
		}

		var event func()
		select {
		case event = <-events:
		case b := <-results:
			event = func() { r.fetched(b) }
		case <-r.wake:
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.mu.Lock()
		event()
		r.mu.Unlock()
	}
}

// morePlanned reports whether more images may be planned.
func (r *run) morePlanned() bool {
	return r.reading || r.planning || r.refused == nil && (!r.exhausted || len(r.unplanned) > 0)
}

// nextRead returns the list if another page of it is needed.
func (r *run) nextRead() *pending {
	if r.reading || r.exhausted || r.refused != nil || len(r.unplanned) > 0 || len(r.ready) >= maxImages {
		return nil
	}
	r.reading = true
	return r.pending
}

// readPage takes a page of the list in.
func (r *run) readPage(p itemPage) {
	r.reading = false
	if p.from != r.pending {
		return // the list is read anew
	}
	if r.exhausted = p.last; r.exhausted {
		return
	}
	r.reached, r.unplanned = p.priority, p.absent
	for _, im := range p.present {
		r.claim(im)
		r.admit(im)
		r.advance(im)
	}
}

// nextPlan returns the images that are planned next, if there is room for them
// among those of their priority and better ones.
func (r *run) nextPlan() []*image {
	if r.planning || len(r.unplanned) == 0 || r.refused != nil {
		return nil
	}
	priority, ahead := r.unplanned[0].priority, 0
	for im := range r.images {
		if im.priority <= priority {
			ahead++
		}
	}
	if ahead >= maxImages || ahead >= enoughImages && r.download.PendingBytes() >= enoughBytes {
		return nil
	}
	n := slices.IndexFunc(r.unplanned, func(im *image) bool { return im.priority != priority })
	if n < 0 {
		n = len(r.unplanned)
	}
	images := r.unplanned[:n:n]
	r.unplanned, r.planning = r.unplanned[n:], true
	for _, im := range images {
		r.claim(im)
	}
	return images
}

// claim makes im the image of its items. An older one, of what an item was
// before, loses it.
func (r *run) claim(im *image) {
	for _, item := range im.items {
		old := r.byItem[placeOf(item)]
		r.byItem[placeOf(item)] = im
		if old == nil || old == im {
			continue
		}
		old.items = slices.DeleteFunc(slices.Clone(old.items),
			func(o metadb.SyncItem) bool { return o.Item == item.Item })
		if len(old.items) == 0 {
			r.cancel(old)
		}
	}
}

// setTotal notes how many items are to come, or failed.
func (r *run) setTotal(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items.ItemsTotal = r.items.ItemsDone + n
}

// admit takes an image of which everything is known into the pipeline.
func (r *run) admit(im *image) {
	r.seq++
	im.seq = r.seq
	r.images[im] = true
	for _, part := range im.parts() {
		part.planned = true
		r.join(part, part.needs...)
	}
	for l := range im.layersOfAll() {
		im.left += l.Size
	}
}

// admitPlan takes planned images into the pipeline.
func (r *run) admitPlan(p *plan) {
	r.planning = false
	maps.Copy(r.short, p.short)
	if p.refused != nil {
		r.refused = p.refused
	}
	for _, im := range p.rest {
		r.forget(im)
	}
	unwanted := func(im *image) bool {
		r.prioritize(im)
		return im.cancelled
	}
	r.unplanned = append(slices.DeleteFunc(p.rest, unwanted), r.unplanned...)
	slices.SortStableFunc(r.unplanned, func(a, b *image) int { return cmp.Compare(a.priority, b.priority) })
	images := slices.DeleteFunc(p.images, unwanted)
	for _, im := range images {
		r.admit(im)
	}
	r.failDisplaced(p)
	for _, im := range images {
		for _, part := range im.parts() {
			if part.err != nil {
				r.fail(part, part.err)
			}
		}
		r.advance(im)
	}
	r.rerank(images...)
}

// prioritize gives an image the priority of its repository, or cancels it.
func (r *run) prioritize(im *image) {
	priority, wanted := r.order(im.repository)
	if im.priority = priority; !wanted {
		r.cancel(im)
	}
}

// cancel drops an image that nobody wants any more, unless it is just becoming
// visible.
func (r *run) cancel(im *image) {
	if im.working || im.committed {
		return
	}
	im.cancelled = true
	r.forget(im)
	if !im.planned {
		return
	}
	delete(r.images, im)
	r.fail(im, errCancelled)
}

// forget lets the items of an image be read from the list again.
func (r *run) forget(im *image) {
	for _, item := range im.items {
		if r.byItem[placeOf(item)] == im {
			delete(r.byItem, placeOf(item))
		}
	}
}

// concerns reports whether what is recorded for a repository goes before, or
// is of the same priority as, what is at work.
func (r *run) concerns(repository string) bool {
	priority, wanted := r.order(repository)
	return wanted && (r.reading || priority <= r.reached)
}

// reorder makes the pipeline follow another order.
func (r *run) reorder() {
	for im := range r.images {
		r.prioritize(im)
	}
	for _, l := range r.layers {
		r.rank(l)
	}
	r.readAgain()
}

// readAgain makes the pipeline read the list from its start, in the order that
// counts now.
func (r *run) readAgain() {
	r.pending, r.unplanned, r.reached, r.exhausted = newPending(r), nil, math.MaxInt, false
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
