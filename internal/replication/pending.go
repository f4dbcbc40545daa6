package replication

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// How many items are read, and planned, together. The first page is small, so that the
// link soon has something to transfer. The others are large enough to fill the link for
// many round trips, and small enough that the plan's manifests fit into memory.
const (
	firstPageSize = 32
	pageSize      = 200
)

// pendingItems iterates over the items that are not in sync, by priority, repository and
// name.
type pendingItems struct {
	run              *run
	order            Order
	priorities       []int  // priorities with unread items, most urgent first
	listed           bool   // priorities is filled in
	repository, item string // the last item that was read of the first priority
	size             int    // of the next page
}

func newPendingItems(r *run) *pendingItems {
	return &pendingItems{run: r, order: r.order, size: firstPageSize}
}

// An itemPage has the images of some pending items of one priority.
type itemPage struct {
	reader   *pendingItems
	priority int
	whole    []*image // stored images: only their tags are missing
	lacking  []*image // images to plan
	end      bool     // the page is empty, and no item is left
}

// nextPage returns the next page.
func (p *pendingItems) nextPage(ctx context.Context) (itemPage, error) {
	priority, rows, err := p.readItems(ctx)
	page := itemPage{reader: p, priority: priority, end: len(rows) == 0}
	if err != nil {
		return page, err
	}
	for _, im := range groupByManifest(rows) {
		im.priority = priority
		whole, err := p.run.isWhole(ctx, im)
		if err != nil {
			return page, err
		}
		if whole {
			page.whole = append(page.whole, im)
		} else {
			page.lacking = append(page.lacking, im)
		}
	}
	return page, nil
}

// readItems returns the next items and their priority.
func (p *pendingItems) readItems(ctx context.Context) (priority int, due []metadb.SyncItem, _ error) {
	if err := p.listPriorities(ctx); err != nil {
		return 0, nil, err
	}
	size := p.size
	p.size = pageSize
	for len(p.priorities) > 0 {
		priority = p.priorities[0]
		rows, err := p.run.Items(ctx, metadb.OutOfSyncItem, p.repository, p.item, pageSize)
		if err != nil {
			return 0, nil, err
		}
		for _, row := range rows {
			p.repository, p.item = row.Repository, row.Item
			of, wanted := p.order(row.Repository)
			if wanted && of == priority && row.Digest != "" && p.run.isDue(row) {
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

// listPriorities finds the priorities of the pending items.
func (p *pendingItems) listPriorities(ctx context.Context) error {
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
	p.run.setItemsTotal(total)
	slices.Sort(p.priorities)
	p.priorities = slices.Compact(p.priorities)
	p.listed = true
	return nil
}

// isDue reports whether an item must be planned: it did not fail in this run, and its image
// is not in flight. An item that changed since is due in both cases.
func (r *run) isDue(row metadb.SyncItem) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed[keyOf(row)].Equal(row.ChangedAt) {
		return false
	}
	im := r.imageOf[keyOf(row)]
	return im == nil || !slices.ContainsFunc(im.items, func(o metadb.SyncItem) bool {
		return o.Item == row.Item && o.ChangedAt.Equal(row.ChangedAt)
	})
}

// isWhole reports whether the manifest of an image is stored with everything below it. For
// an index of which the source has only a part, it returns false, because only the source
// knows which part.
func (r *run) isWhole(ctx context.Context, im *image) (bool, error) {
	m, err := r.storage.DescribeManifest(ctx, im.repository, im.root)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	whole, err := r.hasAllBlobs(ctx, im.repository, im.root)
	if err != nil || !whole || !oci.IsIndex(m.MediaType) {
		return whole, err
	}
	if slices.ContainsFunc(im.items, func(item metadb.SyncItem) bool { return item.Part != "" }) {
		return false, nil
	}
	return r.hasAllChildren(ctx, m, 0)
}

// hasAllBlobs is [storage.Storage.IsWhole]. A blob whose file cannot be looked at counts as
// missing, so that only its images fail.
func (r *run) hasAllBlobs(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	whole, err := r.storage.IsWhole(ctx, repository, d)
	if err != nil && r.storage.IsFileFailure(ctx, err) {
		return false, nil
	}
	return whole, err
}

// maxDepth is how many levels of indexes within indexes are checked.
const maxDepth = 8

// hasAllChildren reports whether a stored index has all of its children. Some are
// missing if a platform filter applied when the index was synced.
func (r *run) hasAllChildren(ctx context.Context, index storage.Manifest, depth int) (bool, error) {
	parsed, err := r.storage.ParseManifest(ctx, &index)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil // it is damaged
	}
	if err != nil {
		return false, err
	}
	present, err := r.storage.HeldChildren(ctx, index.Repository, index.Digest)
	if err != nil {
		return false, err
	}
	for _, child := range parsed.Manifests {
		if !slices.Contains(present, child.Digest) {
			return false, nil
		}
		if whole, err := r.hasAllBlobs(ctx, index.Repository, child.Digest); err != nil || !whole {
			return false, err
		}
		if !oci.IsIndex(child.MediaType) || depth == maxDepth {
			continue
		}
		m, err := r.storage.DescribeManifest(ctx, index.Repository, child.Digest)
		if errors.Is(err, oci.ErrManifestUnknown) {
			return false, nil // it was deleted meanwhile
		}
		if err != nil {
			return false, err
		}
		if all, err := r.hasAllChildren(ctx, m, depth+1); err != nil || !all {
			return false, err
		}
	}
	return true, nil
}
