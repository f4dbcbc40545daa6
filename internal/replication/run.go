package replication

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/download"
	"ferry/internal/metadb"
)

// No further plan is requested while enough images are in flight to keep the link busy for
// the round trips of the next plan: fillImages or, if they are small, fillBytes. At most
// maxImages are in flight, so that they fit into memory.
const (
	fillImages = 100
	fillBytes  = 16 << 20
	maxImages  = 400
)

// leaseTime is how long a sync's blobs and transfers are safe from garbage collection
// without a manifest. It is long because a registry may be without its link for a season;
// a sync that completes releases the leases that it no longer needs.
const leaseTime = 90 * 24 * time.Hour

// leaseHolder is the holder of a sync's leases; see [Engine.sourceKey].
const leaseHolder = "sync"

// A run is one call of [Engine.Sync]. Its pipeline owns its state, and holds the engine's
// lock while it handles an event. Work that takes time runs as background jobs.
type run struct {
	*Engine
	src    Source
	result Result
	wake   chan struct{} // tells the pipeline that reading restarted

	// The engine's lock guards the fields below, and every image.
	pending      *pendingItems
	priorityRead int                      // the priority up to which pending items were read
	reading      bool                     // a job reads a page of pending items
	planning     bool                     // a job plans images
	committing   bool                     // a job commits images
	suspect      *image                   // has a deferred layer; probeLink finds out if the link is at fault
	readAll      bool                     // no pending item is left to read
	unplanned    []*image                 // read, and to be planned
	images       map[*image]bool          // in flight: planned, and not finished
	imageOf      map[itemKey]*image       // of items whose image is in flight or being planned
	layers       map[digest.Digest]*layer // in flight
	newLayers    []*layer                 // layers that the downloader does not know yet
	toCommit     []*image                 // can be committed, or have an outcome to record
	failed       map[itemKey]time.Time    // ChangedAt of items that failed: not tried again until they change
	refused      error                    // by the source, permanently: no further plan is requested
	spaceShort   map[digest.Digest]int64  // disk space that blobs lack, in bytes
	planned      int                      // number of images planned
}

// An itemKey identifies an item of the engine's source.
type itemKey struct{ repository, item string }

func keyOf(row metadb.SyncItem) itemKey { return itemKey{row.Repository, row.Item} }

func newRun(e *Engine, src Source) *run {
	r := &run{
		Engine: e, src: src, wake: make(chan struct{}, 1), images: map[*image]bool{},
		imageOf: map[itemKey]*image{}, layers: map[digest.Digest]*layer{}, failed: map[itemKey]time.Time{},
		spaceShort: map[digest.Digest]int64{},
	}
	r.restartReading()
	return r
}

// sync transfers the pending items and then removes old content.
func (r *run) sync(ctx context.Context) error {
	start := r.storage.Uptime()
	if err := r.transfer(ctx); err != nil {
		return err
	}
	if r.pruneMode != PruneNone {
		if err := r.removeOldContent(ctx); err != nil {
			return err
		}
	}
	if err := r.sumMissingSpace(ctx); err != nil {
		return err
	}
	return r.releaseLeases(ctx, start)
}

// releaseLeases releases the leases that are no longer needed. While the order excludes a
// pending repository, it keeps all of them, because an earlier sync may have fetched a
// part of that repository's content.
func (r *run) releaseLeases(ctx context.Context, start metadb.Uptime) error {
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
		return r.storage.Release(ctx, r.sourceKey(leaseHolder))
	}
	return r.storage.ReleaseStale(ctx, r.sourceKey(leaseHolder), start, leaseTime)
}

// transfer runs the pipeline and the downloader side by side.
func (r *run) transfer(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	layers := make(chan download.Result)
	g.Go(func() error { return r.download.Run(ctx, layers) })
	g.Go(func() error {
		err := r.pipeline(ctx, jobs{g, make(chan func())}, layers)
		stop()
		return err
	})
	return g.Wait()
}

// pipeline moves every pending item through four steps:
//
//  1. Read: a page of pending items is read, most urgent first (pending.go).
//  2. Plan: the source lists everything that their images need (plan.go).
//  3. Download: package download fetches the missing layers.
//  4. Commit: an image that is complete becomes visible, its tags last (commit.go).
//
// The steps overlap. After each event, every step that is idle and has work starts a
// background job; when no step has work, the pipeline is done. Urgent items overtake
// others in each step.
func (r *run) pipeline(ctx context.Context, jobs jobs, layers <-chan download.Result) error {
	for {
		r.mu.Lock()
		r.queueNewLayers()
		r.startRead(ctx, jobs)
		r.startPlan(ctx, jobs)
		r.startCommit(ctx, jobs)
		r.startProbe(ctx, jobs)
		more := r.mayPlanMore()
		r.download.ExpectMore(more)
		done := !more && len(r.images) == 0 && !r.committing
		r.mu.Unlock()
		if done {
			return r.refused
		}

		var handle func()
		select {
		case handle = <-jobs.done:
		case result := <-layers:
			handle = func() { r.layerDownloaded(result) }
		case <-r.wake:
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.mu.Lock()
		handle()
		r.mu.Unlock()
	}
}

// jobs run in the background of the pipeline. Each returns a function that handles its
// result, which the pipeline calls with the engine's lock held.
type jobs struct {
	group *errgroup.Group
	done  chan func()
}

func (j jobs) start(ctx context.Context, job func() (handle func(), err error)) {
	j.group.Go(func() error {
		handle, err := job()
		if err != nil {
			return err
		}
		select {
		case j.done <- handle:
		case <-ctx.Done():
		}
		return nil
	})
}

// mayPlanMore reports whether more images may be planned in this run.
func (r *run) mayPlanMore() bool {
	return r.reading || r.planning || r.refused == nil && (!r.readAll || len(r.unplanned) > 0)
}

// startRead starts to read the next page of pending items, if one is needed.
func (r *run) startRead(ctx context.Context, jobs jobs) {
	if r.reading || r.readAll || r.refused != nil || len(r.unplanned) > 0 || len(r.toCommit) >= maxImages {
		return
	}
	r.reading = true
	pending := r.pending
	jobs.start(ctx, func() (func(), error) {
		page, err := pending.nextPage(ctx)
		return func() { r.pageRead(page) }, err
	})
}

// pageRead adds the images of a page to the pipeline. Stored images only lack their tags and
// need no plan.
func (r *run) pageRead(page itemPage) {
	r.reading = false
	if page.reader != r.pending {
		return // reading restarted meanwhile
	}
	if r.readAll = page.end; r.readAll {
		return
	}
	r.priorityRead, r.unplanned = page.priority, page.lacking
	for _, im := range page.whole {
		r.assignItems(im)
		r.addImage(im)
		r.queueCommit(im)
	}
}

// startPlan starts to plan the unplanned images of the best priority, unless enough images
// that are at least as urgent are in flight.
func (r *run) startPlan(ctx context.Context, jobs jobs) {
	if r.planning || len(r.unplanned) == 0 || r.refused != nil {
		return
	}
	priority, ahead := r.unplanned[0].priority, 0
	for im := range r.images {
		if im.priority <= priority {
			ahead++
		}
	}
	if ahead >= maxImages || ahead >= fillImages && r.download.PendingBytes() >= fillBytes {
		return
	}
	n := slices.IndexFunc(r.unplanned, func(im *image) bool { return im.priority != priority })
	if n < 0 {
		n = len(r.unplanned)
	}
	images := r.unplanned[:n:n]
	r.unplanned, r.planning = r.unplanned[n:], true
	for _, im := range images {
		r.assignItems(im)
	}
	jobs.start(ctx, func() (func(), error) {
		p, err := r.plan(ctx, images)
		return func() { r.imagesPlanned(p) }, err
	})
}

// imagesPlanned adds the images of a plan to the pipeline. Images whose plan is incomplete
// are planned again.
func (r *run) imagesPlanned(p *plan) {
	r.planning = false
	maps.Copy(r.spaceShort, p.spaceShort)
	if p.refused != nil {
		r.refused = p.refused
	}
	for _, im := range p.incomplete {
		r.unassignItems(im)
	}
	unwanted := func(im *image) bool {
		r.prioritize(im)
		return im.canceled
	}
	r.unplanned = append(slices.DeleteFunc(p.incomplete, unwanted), r.unplanned...)
	slices.SortStableFunc(r.unplanned, func(a, b *image) int { return cmp.Compare(a.priority, b.priority) })
	images := slices.DeleteFunc(p.complete, unwanted)
	for _, im := range images {
		r.addImage(im)
	}
	r.failEvicted(p)
	for _, im := range images {
		for _, part := range im.withReferrers() {
			if part.err != nil {
				r.failImage(part, part.err)
			}
		}
		r.queueCommit(im)
	}
	r.rankLayersOf(images...)
}

// addImage puts a planned image in flight.
func (r *run) addImage(im *image) {
	r.planned++
	im.seq = r.planned
	r.images[im] = true
	for _, part := range im.withReferrers() {
		part.planned = true
		r.waitForBlobs(part, part.needed...)
	}
	for l := range im.allLayers() {
		im.bytesLeft += l.Size
	}
}

// startCommit starts to commit the images that are ready.
func (r *run) startCommit(ctx context.Context, jobs jobs) {
	batch := r.nextCommits()
	if batch == nil {
		return
	}
	jobs.start(ctx, func() (func(), error) {
		err := r.commit(ctx, batch)
		return func() { r.imagesCommitted(batch) }, err
	})
}

// startProbe starts to find out whether the link is at fault for a layer that keeps
// failing.
func (r *run) startProbe(ctx context.Context, jobs jobs) {
	im := r.suspect
	if im == nil {
		return
	}
	r.suspect = nil
	jobs.start(ctx, func() (func(), error) {
		r.probeLink(ctx, im)
		return func() {}, nil
	})
}

// setItemsTotal records how many items are pending or failed.
func (r *run) setItemsTotal(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items.ItemsTotal = r.items.ItemsDone + n
}
