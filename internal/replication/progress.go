package replication

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// InFlight is an image that a Sync has planned, and not finished yet.
type InFlight struct {
	Repository     string
	Digest         digest.Digest
	Items          []string      // the names of the items that are in sync once it is here
	BytesTotal     int64         // of its layers, and its referrers', that were missing when it was planned
	BytesDone      int64         // of these
	BytesPerSecond int64         // over the last seconds
	TimeLeft       time.Duration // until it is here, after what comes before it; negative if nobody knows
}

// InFlight returns the images that the running Sync has planned, in the order
// in which they come. After a Sync that was stopped they are those that it
// left, until the next one begins. What a Sync was not to fetch comes last.
func (e *Engine) InFlight() []InFlight {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.left
	if e.current != nil {
		left = e.current.inFlight()
	}
	return slices.Concat(left, e.aside)
}

// RestoreInFlight lets [Engine.InFlight] and [Engine.Progress] include what a
// Sync left before a restart, until the next one begins.
func (e *Engine) RestoreInFlight(left []InFlight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.aside = stopped(slices.Clone(left))
}

// Progress returns how far the running, or the last, Sync is, with the bytes of
// what it leaves alone.
func (e *Engine) Progress() Progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, bytes := e.items, e.download.Progress()
	p.BytesTotal, p.BytesDone, p.Received = bytes.BytesTotal, bytes.BytesDone, bytes.Received
	for _, u := range e.left {
		p.ItemsPlanned += len(u.Items)
	}
	if e.current != nil {
		for im := range e.current.images {
			p.ItemsPlanned += len(im.items)
		}
	}
	for _, u := range e.aside {
		p.BytesTotal += u.BytesTotal
		p.BytesDone += u.BytesDone
		p.ItemsPlanned += len(u.Items)
		p.ItemsTotal += len(u.Items)
	}
	return p
}

// ItemsUnplanned returns how many items are missing here of which nobody knows
// yet how many bytes they lack: [Engine.Progress] does not count those.
func (e *Engine) ItemsUnplanned(ctx context.Context) (int, error) {
	missing, err := e.repositories(ctx, metadb.WantedSyncItem)
	n := -e.Progress().ItemsPlanned
	for _, count := range missing {
		n += count
	}
	return max(n, 0), err
}

// Rate returns how many bytes of content came a second, over the last seconds.
func (e *Engine) Rate() int64 { return e.download.Rate() }

// inFlight is [Engine.InFlight] for one run. The engine's lock is held.
func (r *run) inFlight() []InFlight {
	images := make([]*image, 0, len(r.images))
	for im := range r.images {
		if im.planned && len(im.layersOfAll()) > 0 {
			images = append(images, im)
		}
	}
	slices.SortFunc(images, func(a, b *image) int {
		return cmp.Or(a.rank().Compare(b.rank()), cmp.Compare(a.seq, b.seq))
	})
	all := make([]InFlight, 0, len(images))
	rate := r.download.Rate()
	var ahead int64
	seen := map[*layer]bool{}
	for _, im := range images {
		u := InFlight{Repository: im.repository, Digest: im.root, TimeLeft: -1}
		for _, item := range im.items {
			u.Items = append(u.Items, item.Item)
		}
		for l := range im.layersOfAll() {
			done, rate := r.download.BlobProgress(l.Blob)
			u.BytesTotal += l.Size
			u.BytesDone += done
			u.BytesPerSecond += rate
			if !seen[l] {
				seen[l] = true
				ahead += l.Size - done
			}
		}
		if rate > 0 {
			u.TimeLeft = time.Duration(float64(ahead) / float64(rate) * float64(time.Second))
		}
		all = append(all, u)
	}
	return all
}

// stopped is what was in flight when nothing moves any more.
func stopped(all []InFlight) []InFlight {
	for i := range all {
		all[i].BytesPerSecond, all[i].TimeLeft = 0, -1
	}
	return all
}
