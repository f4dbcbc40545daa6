package replication

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A layer is a blob that is to be fetched. Its fields belong to its queue.
type layer struct {
	digest       digest.Digest
	size         int64
	repositories []string // that need it; it is fetched from the first
	images       []*image
	queued       bool

	transfer *storage.Transfer // nil while nobody fetched any of it
	assigned []storage.Range   // that somebody is fetching
	whole    bool              // the source sends it from its first byte only
	resets   int               // how often its content was wrong
	closing  bool              // somebody is committing it
	finished bool              // it is here, or given up
}

// segmentChunks is how many chunks one request asks for at most: enough to
// make little of its round trip, few enough to share a blob's end fairly.
const segmentChunks = 8

// A queue hands out ranges of layers to whoever fetches, in the layers' order.
type queue struct {
	storage *storage.Storage
	meter   *meter
	chunk   int64
	workers int

	mu      sync.Mutex
	layers  []*layer
	changed chan struct{} // closed when there may be something to do
}

func newQueue(e *Engine, layers []*layer) *queue {
	return &queue{storage: e.storage, meter: &e.meter, chunk: e.chunk, workers: e.workers, layers: layers, changed: make(chan struct{})}
}

// next returns a layer and a range of it to fetch, and waits while others
// fetch all there is. The range is empty when the layer is whole and only
// wants to be committed; the layer is nil when nothing is left to do.
func (q *queue) next(ctx context.Context) (*layer, storage.Range, error) {
	for {
		q.mu.Lock()
		l, r, err := q.pick(ctx)
		wait := q.changed
		q.mu.Unlock()
		if l != nil || err != nil {
			return l, r, err
		}
		if wait == nil {
			return nil, storage.Range{}, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, storage.Range{}, context.Cause(ctx)
		}
	}
}

// pick is next without waiting; it sets changed to nil once all are finished.
func (q *queue) pick(ctx context.Context) (*layer, storage.Range, error) {
	left := false
	for _, l := range q.layers {
		if l.finished {
			continue
		}
		left = true
		if l.closing || l.whole && len(l.assigned) > 0 {
			continue
		}
		if l.transfer == nil {
			t, err := q.storage.Transfer(ctx, l.digest, l.size)
			if err != nil {
				return nil, storage.Range{}, err
			}
			l.transfer = t
			q.meter.bytesDone.Add(t.Have())
		}
		gaps := l.gaps()
		if len(gaps) > 0 {
			r := q.segment(l, gaps)
			l.assigned = append(l.assigned, r)
			return l, r, nil
		}
		if len(l.assigned) == 0 {
			l.closing = true
			return l, storage.Range{}, nil
		}
	}
	if !left && q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
	return nil, storage.Range{}, nil
}

// segment cuts a range from the gaps: shorter towards the layer's end, so
// that all who fetch are done at about the same time.
func (q *queue) segment(l *layer, gaps []storage.Range) storage.Range {
	r := gaps[0]
	if l.whole {
		return storage.Range{Start: r.Start, End: l.size}
	}
	var left int64
	for _, g := range gaps {
		left += g.Len()
	}
	length := min(max(left/int64(2*q.workers), q.chunk), segmentChunks*q.chunk)
	if r.Len() < length+q.chunk {
		return r // no crumbs
	}
	return storage.Range{Start: r.Start, End: r.Start + length}
}

// gaps returns what of the layer is neither here nor being fetched.
func (l *layer) gaps() []storage.Range {
	gaps := l.transfer.Missing()
	for _, a := range l.assigned {
		var rest []storage.Range
		for _, g := range gaps {
			if a.End <= g.Start || a.Start >= g.End {
				rest = append(rest, g)
				continue
			}
			if g.Start < a.Start {
				rest = append(rest, storage.Range{Start: g.Start, End: a.Start})
			}
			if a.End < g.End {
				rest = append(rest, storage.Range{Start: a.End, End: g.End})
			}
		}
		gaps = rest
	}
	return gaps
}

// alone makes the caller, who fetches r, the only one who fetches l from now
// on, because its source sends no ranges. It reports whether that is so.
func (q *queue) alone(l *layer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.whole {
		return false // somebody else found out first
	}
	l.whole = true
	return true
}

// release gives back a range, fetched or not.
func (q *queue) release(l *layer, r storage.Range) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(l.assigned, r); i >= 0 {
		l.assigned = slices.Delete(l.assigned, i, i+1)
	}
	if len(l.assigned) == 0 {
		l.whole = false
	}
	q.wake()
}

// finish closes the layer for good.
func (q *queue) finish(l *layer) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.finished = true
	q.wake()
	if l.transfer == nil {
		return nil
	}
	return l.transfer.Close()
}

// commit makes the whole layer a blob, or, when its content turns out wrong
// for the first time, lets it be fetched again from nothing.
func (q *queue) commit(ctx context.Context, l *layer) (again bool, err error) {
	err = l.transfer.Commit(ctx, l.repositories...)
	if !errors.Is(err, oci.ErrDigestInvalid) {
		return false, err
	}
	if resetErr := l.transfer.Reset(ctx); resetErr != nil {
		return false, resetErr
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.resets++; l.resets > 1 {
		return false, err
	}
	l.closing = false
	q.meter.bytesDone.Add(-l.size)
	q.wake()
	return true, nil
}

// close makes durable what was fetched of the layers that are not finished.
func (q *queue) close() error {
	var errs []error
	for _, l := range q.layers {
		if !l.finished && l.transfer != nil {
			errs = append(errs, l.transfer.Close())
		}
	}
	return errors.Join(errs...)
}

func (q *queue) wake() {
	if q.changed != nil {
		close(q.changed)
		q.changed = make(chan struct{})
	}
}
