package replication

import (
	"context"
	"math"

	"ferry/internal/metadb"
)

// An Order says of a repository how soon a Sync fetches what is to come to
// it, the lowest rank first, and whether it fetches that at all. It must not
// block, nor call the engine.
type Order func(repository string) (rank int, wanted bool)

// anyOrder is the order where there is none.
func anyOrder(string) (rank int, wanted bool) { return 0, true }

// noRank is what a run works at before it knows better: nothing comes before.
const noRank = math.MinInt

// SetOrder lets Syncs follow an order from now on; nil is none. A Sync that
// runs ends the requests that are under way, which takes some seconds, and
// goes on from the same byte in the new order.
func (e *Engine) SetOrder(o Order) {
	e.mu.Lock()
	e.order = o
	r := e.current
	e.mu.Unlock()
	if r != nil {
		r.restart()
	}
}

// Wanted returns how many items are to come that the order lets a Sync fetch.
func (e *Engine) Wanted(ctx context.Context) (n int, err error) {
	order := e.ordered()
	err = e.db.View(ctx, func(tx *metadb.Tx) error {
		waiting, err := tx.WaitingSyncItems(e.name)
		for repository, count := range waiting {
			if _, wanted := order(repository); wanted {
				n += count
			}
		}
		return err
	})
	return n, err
}

func (e *Engine) ordered() Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.order == nil {
		return anyOrder
	}
	return e.order
}

// heeding returns the run that must know of what is noted meanwhile; nil is none.
func (e *Engine) heeding() *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.order == nil {
		return nil
	}
	return e.current
}

// heed lets what came to a repository of a better rank than what is at work
// go first, and what came to one of the same before everything worse.
func (r *run) heed(repository string) {
	r.mu.Lock()
	rank, wanted := r.rule(repository)
	better := wanted && rank < r.rank
	r.behind = r.behind || wanted && rank == r.rank
	r.mu.Unlock()
	if better {
		r.restart()
	}
}

// restart ends the pass once its requests are answered, and lets another follow.
func (r *run) restart() {
	r.mu.Lock()
	q := r.queue
	r.again = r.again || q != nil
	r.mu.Unlock()
	if q != nil {
		q.retire()
	}
}
