package replication

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

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

// A run is one Sync. Its pipeline owns its state, and holds the lock while it
// handles an event. Jobs that take time run beside it, and return results.
type run struct {
	*Engine
	src    Source
	result Result
	wake   chan struct{} // tells the pipeline that restart is set

	mu        sync.Mutex // guards what follows, and every image
	order     Order
	pending   *pending
	reached   int                      // the priority up to which the list was read
	reading   bool                     // a page of the list
	planning  bool                     // some images
	working   bool                     // a commit runs
	doubted   *image                   // one of which a layer fails again and again
	exhausted bool                     // the list was read to its end
	restart   bool                     // it must be read from its start
	reordered bool                     // by another order
	unplanned []*image                 // read from the list
	images    map[*image]bool          // planned, and not finished
	byItem    map[itemPlace]*image     // that are planned, or being planned
	layers    map[digest.Digest]*layer // on their way
	ready     []*image                 // that are to be committed, or whose outcome is to be noted
	failed    map[itemKey]bool         // items that are not tried again in this run
	refused   error                    // by the source: nothing more is planned
	seq       int
}

// An itemPlace is a place in the list of items.
type itemPlace struct{ repository, item string }

// An itemKey tells items apart; one that moved on is another.
type itemKey struct {
	itemPlace
	digest, part string
}

func placeOf(row metadb.SyncItem) itemPlace { return itemPlace{row.Repository, row.Item} }

func keyOf(row metadb.SyncItem) itemKey { return itemKey{placeOf(row), row.Digest, row.Part} }

func newRun(e *Engine, src Source) *run {
	r := &run{
		Engine: e, src: src, wake: make(chan struct{}, 1), order: e.currentOrder(), images: map[*image]bool{},
		byItem: map[itemPlace]*image{}, layers: map[digest.Digest]*layer{}, failed: map[itemKey]bool{},
	}
	r.startOver()
	e.download.Begin(src)
	return r
}

// all transfers what is to come, and removes what left the source.
func (r *run) all(ctx context.Context) error {
	start := r.now()
	wanted, err := r.Wanted(ctx)
	if err != nil {
		return err
	}
	r.count(func(c *itemCounts) { c.total = wanted })
	if err := r.transfer(ctx); err != nil {
		return err
	}
	if r.prune != PruneNone {
		if err := r.remove(ctx); err != nil {
			return err
		}
	}
	return r.unlease(ctx, start)
}

// transfer runs the pipeline, and the downloader beside it.
func (r *run) transfer(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.download.Run(ctx) })
	g.Go(func() error {
		err := r.pipeline(ctx, g)
		stop()
		return err
	})
	return g.Wait()
}

// pipeline is the way of every item: it is read from the list; its image is
// planned, and what it lacks is fetched; once all of it is here, it is made
// visible. Each step has more to do when the one before is done, and the
// pipeline ends when no step has. What is more urgent overtakes in each step.
func (r *run) pipeline(ctx context.Context, g *errgroup.Group) error {
	pages, plans, commits := make(chan itemPage), make(chan *plan), make(chan []*commit)
	probes := make(chan *image)
	for {
		r.mu.Lock()
		if r.restart {
			r.startOver()
		}
		if list := r.nextRead(); list != nil {
			launch(ctx, g, pages, list.next)
		}
		if images := r.nextPlan(); images != nil {
			launch(ctx, g, plans, func(ctx context.Context) (*plan, error) { return r.plan(ctx, images) })
		}
		if batch := r.nextCommits(); batch != nil {
			launch(ctx, g, commits, func(ctx context.Context) ([]*commit, error) { return batch, r.commit(ctx, batch) })
		}
		if im := r.doubted; im != nil {
			r.doubted = nil
			launch(ctx, g, probes, func(ctx context.Context) (*image, error) { return im, r.probe(ctx, im) })
		}
		r.download.ExpectMore(r.morePlanned())
		done := !r.morePlanned() && len(r.images) == 0 && !r.working
		r.mu.Unlock()
		if done {
			return r.refused
		}

		var event func()
		select {
		case p := <-pages:
			event = func() { r.readPage(p) }
		case p := <-plans:
			event = func() { r.admitPlan(p) }
		case b := <-r.download.Results():
			event = func() { r.fetched(b) }
		case batch := <-commits:
			event = func() { r.committed(batch) }
		case <-probes:
			continue
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

// launch runs a job beside the pipeline, which gets its result from out.
func launch[T any](ctx context.Context, g *errgroup.Group, out chan<- T, job func(context.Context) (T, error)) {
	g.Go(func() error {
		result, err := job(ctx)
		if err != nil {
			return err
		}
		select {
		case out <- result:
		case <-ctx.Done():
		}
		return nil
	})
}

// morePlanned reports whether more images may be planned.
func (r *run) morePlanned() bool {
	return r.reading || r.planning || r.restart || r.refused == nil && (!r.exhausted || len(r.unplanned) > 0)
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
	if ahead >= maxImages || ahead >= enoughImages && r.download.Waiting() >= enoughBytes {
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
		old.items = slices.DeleteFunc(slices.Clone(old.items), func(o metadb.SyncItem) bool { return o.Item == item.Item })
		if len(old.items) == 0 {
			r.cancel(old)
		}
	}
}

// admit takes an image of which everything is known into the pipeline.
func (r *run) admit(im *image) (fresh []*layer) {
	r.seq++
	im.seq = r.seq
	r.images[im] = true
	for _, part := range im.parts() {
		part.planned = true
		fresh = append(fresh, r.join(part)...)
	}
	for l := range im.layersOfAll() {
		im.left += l.Size
	}
	return fresh
}

// admitPlan lets the layers of planned images be fetched, unless they are on
// their way already.
func (r *run) admitPlan(p *plan) {
	r.planning = false
	if p.refused != nil {
		r.refused = p.refused
	}
	for _, im := range p.rest {
		r.forget(im)
	}
	unwanted := func(im *image) bool {
		priority, wanted := r.order(im.repository)
		if im.priority = priority; !wanted {
			r.cancel(im)
		}
		return im.cancelled
	}
	r.unplanned = append(slices.DeleteFunc(p.rest, unwanted), r.unplanned...)
	slices.SortStableFunc(r.unplanned, func(a, b *image) int { return cmp.Compare(a.priority, b.priority) })
	images := slices.DeleteFunc(p.images, unwanted)
	var fresh []*layer
	for _, im := range images {
		fresh = append(fresh, r.admit(im)...)
	}
	for _, im := range images {
		for _, part := range im.parts() {
			if part.err != nil {
				r.fail(part, part.err)
			}
		}
		r.advance(im)
	}
	r.fetch(slices.DeleteFunc(fresh, func(l *layer) bool { return r.layers[l.Digest] != l }))
	r.rerank(images...)
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

// noted lets what came to a repository go before everything worse, and what is
// of the same priority as what is at work soon after it.
func (r *run) noted(repository string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if priority, wanted := r.order(repository); wanted && (r.reading || priority <= r.reached) {
		r.readAgain()
	}
}

// reorder lets the pipeline follow the order that counts now.
func (r *run) reorder() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reordered = true
	r.readAgain()
}

// readAgain lets the pipeline read the list from its start.
func (r *run) readAgain() {
	r.restart = true
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// startOver reads the list from its start, by the order that counts now.
func (r *run) startOver() {
	if r.reordered {
		r.order = r.currentOrder()
		for im := range r.images {
			priority, wanted := r.order(im.repository)
			if im.priority = priority; !wanted {
				r.cancel(im)
			}
		}
		for _, l := range r.layers {
			if l.added {
				r.rank(l)
			}
		}
	}
	r.pending, r.unplanned = newPending(r), nil
	r.reached, r.exhausted, r.restart, r.reordered = math.MaxInt, false, false, false
}
