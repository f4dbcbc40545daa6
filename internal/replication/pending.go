package replication

import (
	"context"
	"errors"
	"slices"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// How many items are read, and planned, at once: at first few, so that the
// link has something to carry soon; then enough to fill it for many round
// trips, and few enough that their manifests fit into memory.
const (
	firstPage = 32
	page      = 200
)

// pending iterates over the items that are to come, by priority, repository
// and name.
type pending struct {
	run              *run
	order            Order
	priorities       []int  // that are left
	listed           bool   // priorities are known
	repository, item string // the last one that was read of the first priority
	size             int    // of the next page
}

func newPending(r *run) *pending { return &pending{run: r, order: r.order, size: firstPage} }

// An itemPage is some items of one priority, as images.
type itemPage struct {
	from     *pending
	priority int
	present  []*image // whose manifests are here, whole: they only lack their tags
	absent   []*image
	last     bool // nothing is left
}

// next returns the next page.
func (p *pending) next(ctx context.Context) (itemPage, error) {
	priority, rows, err := p.read(ctx)
	result := itemPage{from: p, priority: priority, last: len(rows) == 0}
	if err != nil {
		return result, err
	}
	for _, im := range group(rows) {
		im.priority = priority
		whole, err := p.run.whole(ctx, im)
		if err != nil {
			return result, err
		}
		if whole {
			result.present = append(result.present, im)
		} else {
			result.absent = append(result.absent, im)
		}
	}
	return result, nil
}

// read returns the next items, and their priority.
func (p *pending) read(ctx context.Context) (priority int, due []metadb.SyncItem, _ error) {
	if err := p.list(ctx); err != nil {
		return 0, nil, err
	}
	size := p.size
	p.size = page
	for len(p.priorities) > 0 {
		priority = p.priorities[0]
		rows, err := p.run.Items(ctx, metadb.OpenSyncItem, p.repository, p.item, page)
		if err != nil {
			return 0, nil, err
		}
		for _, row := range rows {
			p.repository, p.item = row.Repository, row.Item
			of, wanted := p.order(row.Repository)
			if wanted && of == priority && row.Digest != "" && p.run.due(row) {
				due = append(due, row)
			}
			if len(due) == size {
				return priority, due, nil
			}
		}
		if len(rows) > 0 {
			continue
		}
		p.priorities, p.repository, p.item = p.priorities[1:], "", ""
		if len(due) > 0 {
			return priority, due, nil
		}
	}
	return priority, nil, nil
}

// list finds out which priorities there are.
func (p *pending) list(ctx context.Context) error {
	if p.listed {
		return nil
	}
	waiting, err := p.run.repositories(ctx, metadb.WantedSyncItem)
	if err != nil {
		return err
	}
	total := 0
	for repository, count := range waiting {
		if priority, wanted := p.order(repository); wanted {
			p.priorities = append(p.priorities, priority)
			total += count
		}
	}
	p.run.setTotal(total)
	slices.Sort(p.priorities)
	p.priorities = slices.Compact(p.priorities)
	p.listed = true
	return nil
}

// whole reports whether the manifest of an image is here, with all that must be
// below it, as far as that can be told without the source: of an index of which
// the source has a part it cannot.
func (r *run) whole(ctx context.Context, im *image) (bool, error) {
	m, err := r.storage.DescribeManifest(ctx, im.repository, im.root)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if whole, err := r.storage.IsWhole(ctx, im.repository, im.root); err != nil || !whole || !oci.IsIndex(m.MediaType) {
		return whole, err
	}
	if slices.ContainsFunc(im.items, func(item metadb.SyncItem) bool { return item.Part != "" }) {
		return false, nil
	}
	return r.holdsAll(ctx, m, 0)
}

// maxDepth is how far indexes within indexes are looked into.
const maxDepth = 8

// holdsAll reports whether an index that is here holds all of its children. It
// may not: a platform filter, which may be gone, may have applied when it came.
func (r *run) holdsAll(ctx context.Context, index storage.Manifest, depth int) (bool, error) {
	parsed, err := oci.ParseManifest(index.MediaType, index.Payload)
	if err != nil {
		return false, err
	}
	held, err := r.storage.Held(ctx, index.Repository, index.Digest)
	if err != nil {
		return false, err
	}
	for _, child := range parsed.Manifests {
		if !slices.Contains(held, child.Digest) {
			return false, nil
		}
		if whole, err := r.storage.IsWhole(ctx, index.Repository, child.Digest); err != nil || !whole {
			return false, err
		}
		if !oci.IsIndex(child.MediaType) || depth == maxDepth {
			continue
		}
		m, err := r.storage.DescribeManifest(ctx, index.Repository, child.Digest)
		if errors.Is(err, oci.ErrManifestUnknown) {
			return false, nil // it went meanwhile
		}
		if err != nil {
			return false, err
		}
		if all, err := r.holdsAll(ctx, m, depth+1); err != nil || !all {
			return false, err
		}
	}
	return true, nil
}

// due reports whether an item has to be planned.
func (r *run) due(row metadb.SyncItem) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed[placeOf(row)].Equal(row.ChangedAt) {
		return false
	}
	im := r.byItem[placeOf(row)]
	return im == nil || !slices.ContainsFunc(im.items, func(o metadb.SyncItem) bool {
		return o.Item == row.Item && o.ChangedAt.Equal(row.ChangedAt)
	})
}
