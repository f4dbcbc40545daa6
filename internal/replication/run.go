package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// leaseTime is how long a sync's blobs and transfers are safe from collection
// without a manifest: a site may be without its link for a season. What a
// Sync did not ask for again is released at its end.
const leaseTime = 90 * 24 * time.Hour

// leaseHolder is the name that a sync's leases are held in; see [Engine.own].
const leaseHolder = "sync"

// A run is one Sync.
type run struct {
	*Engine
	src  Source
	link *link

	mu      sync.Mutex // guards what follows, and every image
	result  Result
	rule    Order                    // of the pass
	rank    int                      // of what the pass is planning, or planned last
	behind  bool                     // something of that rank was noted since the pass began
	queue   *queue                   // of the pass; nil between two
	images  []*image                 // that the pass has planned and not settled, in the order in which they come
	again   bool                     // another pass is worth it
	barred  refusals                 // of the credentials
	failed  map[itemKey]bool         // items that are not, in this run
	strikes map[digest.Digest]int64  // layers that were put off, and how often something came through until then
	live    map[digest.Digest]*layer // that are on their way, in whatever queue
}

func newRun(e *Engine, src Source) *run {
	return &run{
		Engine: e, src: src, link: newLink(), rule: anyOrder,
		failed: map[itemKey]bool{}, strikes: map[digest.Digest]int64{}, live: map[digest.Digest]*layer{},
	}
}

// all passes over the items until none is left that is worth another try.
func (r *run) all(ctx context.Context) error {
	start := r.now()
	wanted, err := r.Wanted(ctx)
	if err != nil {
		return err
	}
	r.meter.begin(wanted)
	for again := true; again; again = r.again {
		if err := r.pass(ctx); err != nil {
			return err
		}
		if r.removal == RemoveNothing {
			continue
		}
		if err := r.remove(ctx); err != nil {
			return err
		}
	}
	return r.unlease(ctx, start)
}

// unlease lets go of what was leased and is not needed any more. What the order
// did not want keeps its leases: other Syncs began it.
func (r *run) unlease(ctx context.Context, start time.Time) error {
	waiting, err := r.repositories(ctx, metadb.WantedSyncItem)
	if err != nil {
		return err
	}
	order := r.ordered()
	for repository := range waiting {
		if _, wanted := order(repository); !wanted {
			return nil
		}
	}
	if r.result.Failed == 0 {
		return r.storage.Release(ctx, r.own(leaseHolder))
	}
	return r.storage.ReleaseStale(ctx, r.own(leaseHolder), start, leaseTime)
}

// An itemKey tells items apart; one that moved on is another.
type itemKey struct{ repository, item, digest string }

func keyOf(row metadb.SyncItem) itemKey { return itemKey{row.Repository, row.Item, row.Digest} }

// begin returns the queue of a new pass, which follows the order that there is now.
func (r *run) begin() *queue {
	q := newQueue(r.Engine, r.link)
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.live)
	r.rule, r.rank, r.behind, r.queue, r.images, r.again = r.ordered(), noRank, false, q, nil, false
	return q
}

// end keeps what the pass did not finish for the next one.
func (r *run) end(q *queue) error {
	r.mu.Lock()
	r.queue = nil
	again := r.again
	r.mu.Unlock()
	if again {
		q.forget()
	}
	return q.close()
}

// pass tries every item once: it plans the next ones while it fetches what
// was planned before.
func (r *run) pass(ctx context.Context) error {
	q := r.begin()
	var refused error // by the source; what is planned already is fetched nevertheless
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer q.seal()
		err := r.plan(gctx, q)
		if retry.Permanent(err) {
			refused, err = err, nil
		}
		return err
	})
	c := newCrew(r.workers, r.log)
	q.hands = c.size
	c.received = func() int64 { return r.meter.progress().Received }
	c.unrest, c.starved = r.link.unrest, q.waited
	g.Go(func() error {
		c.adapt(gctx)
		return nil
	})
	g.Go(func() error {
		c.hire(gctx, func() { g.Go(func() error { return r.work(gctx, q, c) }) })
		return nil
	})
	return errors.Join(g.Wait(), r.end(q), refused)
}

// plan asks the source for what is needed, not much earlier than it is.
func (r *run) plan(ctx context.Context, q *queue) error {
	agenda, err := r.newAgenda(ctx)
	if err != nil {
		return err
	}
	for {
		if more, err := q.low(ctx); !more {
			return err
		}
		rows, err := agenda.next(ctx)
		if err != nil || len(rows) == 0 {
			return err
		}
		images, err := r.here(ctx, rows)
		if err != nil {
			return err
		}
		for len(images) > 0 {
			if more, err := q.low(ctx); !more {
				return err
			}
			if images, err = r.planSome(ctx, q, images); err != nil {
				return err
			}
		}
	}
}

// planSome plans as many of the images as fit into memory, and returns the others.
func (r *run) planSome(ctx context.Context, q *queue, images []*image) ([]*image, error) {
	p, err := r.ask(ctx, images)
	if err != nil {
		return nil, err
	}
	images, rest := p.split(images)
	parts, layers, err := r.assemble(ctx, p, images)
	if err != nil {
		return nil, err
	}
	q.add(images, layers)
	for _, im := range parts { // what needs no layer is whole already
		if err := r.advance(ctx, q, im); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// final reports whether err lets a layer fail for good.
func (r *run) final(err error) bool {
	if !retry.Unauthorized(err) {
		return retry.Permanent(err)
	}
	proof := r.link.proof()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.barred.again(time.Now(), proof)
}
