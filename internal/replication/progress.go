package replication

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// InFlight is an image in flight: planned by a Sync, and not finished.
type InFlight struct {
	Repository     string
	Digest         digest.Digest
	Items          []string      // names of the items that are in sync when the image is
	BytesTotal     int64         // of the layers that it and its referrers lacked when it was planned
	BytesDone      int64         // bytes of BytesTotal that are on disk
	BytesPerSecond int64         // over the last seconds
	TimeLeft       time.Duration // until it and all images before it are complete; negative if unknown
}

// InFlight returns the images in flight of the running Sync, in the order in which they
// are expected. After a Sync that was stopped, it returns the images that this Sync left,
// until the next one begins. Images that the order excludes come last.
func (e *Engine) InFlight() []InFlight {
	e.mu.Lock()
	defer e.mu.Unlock()
	images := e.unfinished
	if e.current != nil {
		images = e.current.inFlight()
	}
	return slices.Concat(images, e.setAside)
}

// RestoreInFlight makes [Engine.InFlight] and [Engine.Progress] include the images
// that a Sync left in flight before a restart, until the next Sync begins.
func (e *Engine) RestoreInFlight(images []InFlight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setAside = stoppedInFlight(slices.Clone(images))
}

// Progress returns the progress of the running or last Sync, including the bytes of images
// that were set aside.
func (e *Engine) Progress() Progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, bytes := e.items, e.download.Progress()
	p.BytesTotal, p.BytesDone, p.Received = bytes.BytesTotal, bytes.BytesDone, bytes.Received
	for _, u := range e.unfinished {
		p.ItemsPlanned += len(u.Items)
	}
	if e.current != nil {
		for im := range e.current.images {
			p.ItemsPlanned += len(im.items)
		}
	}
	for _, u := range e.setAside {
		p.BytesTotal += u.BytesTotal
		p.BytesDone += u.BytesDone
		p.ItemsPlanned += len(u.Items)
		p.ItemsTotal += len(u.Items)
	}
	return p
}

// ItemsUnplanned returns for how many pending items it is not known yet how many bytes they
// lack. [Engine.Progress] does not count their bytes.
func (e *Engine) ItemsUnplanned(ctx context.Context) (int, error) {
	missing, err := e.repositories(ctx, metadb.WantedSyncItem)
	n := -e.Progress().ItemsPlanned
	for _, count := range missing {
		n += count
	}
	return max(n, 0), err
}

// Rate returns the bytes of content received per second, over the last seconds.
func (e *Engine) Rate() int64 { return e.download.Rate() }

// inFlight returns the images in flight of a run. The engine's lock is held.
func (r *run) inFlight() []InFlight {
	images := make([]*image, 0, len(r.images))
	for im := range r.images {
		if im.planned && len(im.allLayers()) > 0 {
			images = append(images, im)
		}
	}
	slices.SortFunc(images, func(a, b *image) int {
		return cmp.Or(a.rank().Compare(b.rank()), cmp.Compare(a.seq, b.seq))
	})
	all := make([]InFlight, 0, len(images))
	rate := r.download.Rate()
	var bytesAhead int64
	seen := map[*layer]bool{}
	for _, im := range images {
		u := InFlight{Repository: im.repository, Digest: im.root, TimeLeft: -1}
		for _, item := range im.items {
			u.Items = append(u.Items, item.Item)
		}
		for l := range im.allLayers() {
			done, rate := r.download.BlobProgress(l.Blob)
			u.BytesTotal += l.Size
			u.BytesDone += done
			u.BytesPerSecond += rate
			if !seen[l] {
				seen[l] = true
				bytesAhead += l.Size - done
			}
		}
		if rate > 0 {
			u.TimeLeft = time.Duration(float64(bytesAhead) / float64(rate) * float64(time.Second))
		}
		all = append(all, u)
	}
	return all
}

// stoppedInFlight clears the rate and the time left of images whose Sync has stopped.
func stoppedInFlight(all []InFlight) []InFlight {
	for i := range all {
		all[i].BytesPerSecond, all[i].TimeLeft = 0, -1
	}
	return all
}
