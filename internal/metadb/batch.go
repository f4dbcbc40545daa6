package metadb

import (
	"context"
	"errors"
	"sync"
)

// maxBatched is how many updates share a transaction at most.
const maxBatched = 500

// A batcher collects the updates that arrive while a transaction runs, for the next
// transaction.
type batcher struct {
	mu      sync.Mutex
	running bool
	waiting []*batched
}

type batched struct {
	fn   func(*Tx) error
	done chan struct{}
	err  error
}

// UpdateTogether is [DB.Update] for small updates that arrive in large numbers. Those that
// arrive while others are being written share one transaction, because most of the cost of a
// transaction is its commit. If one of them fails, each is run again in a transaction of its
// own, so that fn may be called several times. An update must not read rows that other such
// updates write.
func (db *DB) UpdateTogether(ctx context.Context, fn func(*Tx) error) error {
	b := &batched{fn: fn, done: make(chan struct{})}
	db.batch.mu.Lock()
	db.batch.waiting = append(db.batch.waiting, b)
	if !db.batch.running {
		db.batch.running = true
		go db.runBatches()
	}
	db.batch.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done(): // the update may be written nevertheless
		return context.Cause(ctx)
	}
}

// runBatches writes updates until none is waiting.
func (db *DB) runBatches() {
	for {
		db.batch.mu.Lock()
		some := db.batch.waiting[:min(len(db.batch.waiting), maxBatched)]
		db.batch.waiting = db.batch.waiting[len(some):]
		if len(some) == 0 {
			db.batch.running, db.batch.waiting = false, nil
			db.batch.mu.Unlock()
			return
		}
		db.batch.mu.Unlock()
		db.runBatch(some)
	}
}

func (db *DB) runBatch(some []*batched) {
	ctx := context.Background() // one caller must not cancel the updates of others
	err := db.Update(ctx, func(tx *Tx) error {
		for _, b := range some {
			if err := b.fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	for _, b := range some {
		if b.err = err; err != nil && len(some) > 1 && !errors.Is(err, ErrUnavailable) {
			b.err = db.Update(ctx, b.fn)
		}
		close(b.done)
	}
}
