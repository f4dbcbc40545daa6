package replication

import (
	"math"
	"slices"

	"ferry/internal/metadb"
)

// This file makes a running Sync follow changes: of the order, and of the items.

// An Order returns how soon a Sync fetches the pending items of a repository, the lowest
// priority value first, and whether it fetches them at all. It must not block, nor call
// the engine.
type Order func(repository string) (priority int, wanted bool)

// anyOrder is the order if none is set.
func anyOrder(string) (priority int, wanted bool) { return 0, true }

// SetOrder sets the order of this and later Syncs; nil fetches everything with the same
// priority. In a running Sync, requests in flight are not interrupted.
func (e *Engine) SetOrder(o Order) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.order, e.followsChanges = o, o != nil; o == nil {
		e.order = anyOrder
	}
	if e.current != nil {
		e.current.reprioritize()
	}
}

func (e *Engine) currentOrder() Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.order
}

// reprioritize applies a new order to the images in flight, and reads the pending items
// again.
func (r *run) reprioritize() {
	for im := range r.images {
		r.prioritize(im)
	}
	for _, l := range r.layers {
		r.rankLayer(l)
	}
	r.restartReading()
}

// prioritize gives an image the priority of its repository. It cancels an image that the
// order excludes.
func (r *run) prioritize(im *image) {
	priority, wanted := r.order(im.repository)
	if im.priority = priority; !wanted {
		r.cancelImage(im)
	}
}

// isAffectedBy reports whether a change in a repository matters now: its items are as
// urgent as those being read, or more.
func (r *run) isAffectedBy(repository string) bool {
	priority, wanted := r.order(repository)
	return wanted && (r.reading || priority <= r.priorityRead)
}

// restartReading makes the pipeline read the pending items from the start, in the current
// order.
func (r *run) restartReading() {
	r.pending, r.unplanned, r.priorityRead, r.readAll = newPendingItems(r), nil, math.MaxInt, false
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// assignItems makes im the image of its items. It takes them from an older image, whose
// manifest they named before; that image is cancelled when it has no item left.
func (r *run) assignItems(im *image) {
	for _, item := range im.items {
		old := r.imageOf[keyOf(item)]
		r.imageOf[keyOf(item)] = im
		if old == nil || old == im {
			continue
		}
		sameItem := func(o metadb.SyncItem) bool { return o.Item == item.Item }
		old.items = slices.DeleteFunc(slices.Clone(old.items), sameItem)
		if len(old.items) == 0 {
			r.cancelImage(old)
		}
	}
}

// unassignItems allows the items of an image to be read again.
func (r *run) unassignItems(im *image) {
	for _, item := range im.items {
		if r.imageOf[keyOf(item)] == im {
			delete(r.imageOf, keyOf(item))
		}
	}
}

// cancelImage drops an image that is no longer wanted, unless it is being committed.
func (r *run) cancelImage(im *image) {
	if im.committing || im.committed {
		return
	}
	im.canceled = true
	r.unassignItems(im)
	if !im.planned {
		return
	}
	delete(r.images, im)
	r.failImage(im, errCanceled)
}
