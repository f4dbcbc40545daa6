package replication

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Underway is an image that a Sync has planned, and not finished yet.
type Underway struct {
	Repository     string
	Digest         digest.Digest
	Items          []string      // the names of the items that are in sync once it is here
	BytesTotal     int64         // of its layers, and its referrers', that were missing when it was planned
	BytesDone      int64         // of these
	BytesPerSecond int64         // over the last seconds
	Left           time.Duration // until it is here, after what comes before it; negative where nobody knows
}

// Underway returns the images that the running Sync has planned, in the order
// in which they come. After a Sync that was stopped they are those that it
// left, until the next one begins. What a Sync was not to fetch comes last.
func (e *Engine) Underway() []Underway {
	e.mu.Lock()
	r, left, aside := e.current, e.left, e.aside
	e.mu.Unlock()
	if r != nil {
		left = r.underway()
	}
	return slices.Concat(left, aside)
}

// Recall lets [Engine.Underway] and [Engine.Progress] tell what a Sync left
// before a restart, until the next one begins.
func (e *Engine) Recall(left []Underway) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.aside = stopped(slices.Clone(left))
}

// underway is [Engine.Underway] for one run. Its lock is taken before the
// engine's elsewhere, which must not be held here.
func (r *run) underway() []Underway {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.mu.Lock()
	defer r.meter.mu.Unlock()
	now := time.Now()
	rate := r.meter.pace.rate(now)
	all := make([]Underway, 0, len(r.images))
	var ahead int64
	seen := map[*layer]bool{}
	for _, im := range r.images {
		u := Underway{Repository: im.repository, Digest: im.root, Left: -1}
		for _, item := range im.items {
			u.Items = append(u.Items, item.Item)
		}
		for l := range im.needs() {
			u.BytesTotal += l.size
			u.BytesDone += l.done
			u.BytesPerSecond += max(l.pace.rate(now), 0)
			if !seen[l] {
				seen[l] = true
				ahead += l.size - l.done
			}
		}
		if rate > 0 {
			u.Left = time.Duration(float64(ahead) / float64(rate) * float64(time.Second))
		}
		all = append(all, u)
	}
	return all
}

// needs are the layers that were missing of the image and its referrers.
func (im *image) needs() map[*layer]bool {
	all := map[*layer]bool{}
	for _, part := range im.parts() {
		for _, l := range part.order {
			all[l] = true
		}
	}
	return all
}

// stopped is what was underway when nothing moves any more.
func stopped(all []Underway) []Underway {
	for i := range all {
		all[i].BytesPerSecond, all[i].Left = 0, -1
	}
	return all
}
