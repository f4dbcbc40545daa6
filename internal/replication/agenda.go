package replication

import (
	"context"
	"slices"

	"ferry/internal/metadb"
)

// firstPage is how many items are planned at first, so that the link has
// something to carry soon, while the next ones are planned.
const firstPage = 32

// An agenda is the items that are to come and did not fail yet in this run,
// rank by rank, by repository and name.
type agenda struct {
	*run
	ranks            []int  // that are left
	repository, item string // the last one that was looked at of the first rank
	size             int    // of the next page
}

// newAgenda reads which ranks there are.
func (r *run) newAgenda(ctx context.Context) (*agenda, error) {
	waiting, err := r.repositories(ctx, metadb.WantedSyncItem)
	if err != nil {
		return nil, err
	}
	a := &agenda{run: r, size: firstPage}
	for repository := range waiting {
		if rank, wanted := r.rule(repository); wanted {
			a.ranks = append(a.ranks, rank)
		}
	}
	slices.Sort(a.ranks)
	a.ranks = slices.Compact(a.ranks)
	return a, nil
}

// next returns a page of items of one rank; none where nothing is left. It
// ends before a worse rank where something of this one was noted meanwhile.
func (a *agenda) next(ctx context.Context) (items []metadb.SyncItem, _ error) {
	size := a.size
	a.size = page
	for a.enter() {
		rows, err := a.open(ctx, a.repository, a.item)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			a.repository, a.item = row.Repository, row.Item
			if a.due(row) {
				items = append(items, row)
			}
			if len(items) == size {
				return items, nil
			}
		}
		if len(rows) > 0 {
			continue
		}
		a.ranks, a.repository, a.item = a.ranks[1:], "", ""
		if len(items) > 0 {
			return items, nil
		}
	}
	return nil, nil
}

// enter notes which rank is at work, and reports whether there is one.
func (a *agenda) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ranks) == 0 {
		return false
	}
	if a.behind && a.ranks[0] > a.rank {
		a.again = true
		return false
	}
	a.rank = a.ranks[0]
	return true
}

// due reports whether an item is of the rank that is at work, to come, and
// did not fail yet.
func (a *agenda) due(row metadb.SyncItem) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	rank, wanted := a.rule(row.Repository)
	return wanted && rank == a.rank && row.Digest != "" && !a.failed[keyOf(row)]
}
