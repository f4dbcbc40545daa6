package replication

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ferry/internal/retry"
	"ferry/internal/storage"
)

// How much on its way in is enough to keep the link busy for the round trips
// of the next plan: so many images or, where they are small, so many bytes, of
// no more images than fit into memory.
const (
	enoughImages = 100
	enoughBytes  = 16 << 20
	mostImages   = 400
)

// knowsNoRanges is how many layers in a row a source has to send as a whole for
// the others to be asked for as a whole: one may be a cache's, on the way.
const knowsNoRanges = 2

// A queue hands out ranges of layers to whoever fetches, in the order in
// which the layers were added.
type queue struct {
	storage *storage.Storage
	meter   *meter
	link    *link
	chunk   int64
	hands   func() int // how many fetch

	mu      sync.Mutex
	layers  []*layer
	images  int           // that are not settled
	whole   int           // layers in a row of which the source sent all where it was asked for a range
	sealed  bool          // nothing will be added
	retired bool          // nothing more is handed out
	idle    bool          // somebody had to wait for something to fetch
	changed chan struct{} // closed when there may be something to do
}

func newQueue(e *Engine, l *link) *queue {
	return &queue{
		storage: e.storage, meter: e.meter, link: l, chunk: e.chunk, hands: func() int { return 1 },
		changed: make(chan struct{}),
	}
}

// add appends layers, and counts the images that need them or need none.
func (q *queue) add(images []*image, layers []*layer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.layers = append(slices.DeleteFunc(q.layers, func(l *layer) bool { return l.finished }), layers...)
	q.images += len(images)
	q.wake()
}

// settled counts an image less.
func (q *queue) settled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.images--
	q.wake()
}

// seal says that nothing will be added.
func (q *queue) seal() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sealed = true
	q.wake()
}

// retire lets nothing more be handed out: who fetches ends the request that
// is under way.
func (q *queue) retire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = true
	q.wake()
}

// low waits until there is room for more images, and reports whether they are
// worth planning.
func (q *queue) low(ctx context.Context) (more bool, _ error) {
	for {
		q.mu.Lock()
		room := q.images < enoughImages || q.images < mostImages && q.waiting() < enoughBytes
		retired, wait := q.retired, q.changed
		q.mu.Unlock()
		if room || retired {
			return !retired, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// waiting is how many bytes are to come of the layers that nobody has begun.
func (q *queue) waiting() (n int64) {
	for _, l := range q.layers {
		if l.transfer == nil && !l.finished {
			n += l.size
		}
	}
	return n
}

// waited reports whether somebody had to wait for something to fetch since it
// was last asked.
func (q *queue) waited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	idle := q.idle
	q.idle = false
	return idle
}

// next returns what to fetch next, of so many bytes, and waits while
// others fetch all there is: one claim, or several that can come in one
// answer. It returns none when nothing is left to do. An error with a claim is
// that layer's.
func (q *queue) next(ctx context.Context, reach extent) ([]*claim, error) {
	for {
		q.mu.Lock()
		c, until, err := q.pick(ctx, reach)
		done := c == nil && (q.retired || q.sealed && !slices.ContainsFunc(q.layers, func(l *layer) bool { return !l.finished }))
		wait := q.changed
		q.idle = q.idle || c == nil
		claims := q.join(ctx, c, reach, err)
		q.mu.Unlock()
		if c != nil || err != nil || done {
			return claims, err
		}
		pause := time.Hour
		if !until.IsZero() {
			pause = time.Until(until)
		}
		if err := retry.Sleep(ctx, pause, wait); err != nil {
			return nil, err
		}
	}
}

// pick is next without waiting; it returns until when all that is left has
// to wait.
func (q *queue) pick(ctx context.Context, reach extent) (_ *claim, until time.Time, _ error) {
	if ctx.Err() != nil {
		return nil, until, context.Cause(ctx)
	}
	if q.retired {
		return nil, until, nil
	}
	now := time.Now()
	for _, l := range q.layers {
		if l.unwanted && len(l.claims) == 0 {
			if err := q.drop(l); err != nil {
				return nil, until, err
			}
		}
		if l.finished || l.closing || l.unwanted || l.alone && len(l.claims) > 0 {
			continue
		}
		if now.Before(l.trouble.until) {
			if until.IsZero() || l.trouble.until.Before(until) {
				until = l.trouble.until
			}
			continue
		}
		c, err := q.claim(ctx, l, reach)
		if c != nil || err != nil {
			return c, until, err
		}
	}
	return nil, until, nil
}

// claim returns a range of l, or nil where others have claimed all of it.
func (q *queue) claim(ctx context.Context, l *layer, reach extent) (*claim, error) {
	if l.transfer == nil {
		has, err := q.storage.HasBlob(ctx, l.digest)
		if err != nil {
			return nil, err
		}
		if has { // it came another way meanwhile
			l.closing = true
			q.meter.add(func(p *Progress) { l.got(p, l.size) })
			return &claim{layer: l}, nil
		}
		t, err := q.storage.Transfer(ctx, l.digest, l.size)
		if err != nil {
			c := &claim{layer: l, repository: l.from}
			l.claims = append(l.claims, c)
			return c, ownError{err}
		}
		l.transfer = t
		have := t.Have()
		q.meter.add(func(p *Progress) { l.got(p, have) })
	}
	gaps := l.gaps()
	switch {
	case len(gaps) > 0:
		l.alone = l.alone || q.whole >= knowsNoRanges
		c := &claim{l, l.segment(gaps, segmenting{q.chunk, q.hands(), reach, q.rest()}), l.from}
		l.claims = append(l.claims, c)
		return c, nil
	case len(l.claims) == 0:
		l.closing = true
		return &claim{layer: l}, nil
	}
	return nil, nil
}

// rest is how many bytes are not here of all layers; 0 where there may be more
// layers to come.
func (q *queue) rest() (n int64) {
	if !q.sealed {
		return 0
	}
	for _, l := range q.layers {
		switch {
		case l.finished:
		case l.transfer == nil:
			n += l.size
		default:
			n += l.size - l.transfer.Have()
		}
	}
	return n
}

// stale reports whether nobody needs what is claimed any more.
func (q *queue) stale(c *claim) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return c.unwanted
}

// wholly makes the caller, who has c, the only one who fetches its layer from
// now on, because its source sends no ranges. It reports whether that is so:
// not where somebody else found out first, and may have fetched all of it.
func (q *queue) wholly(c *claim) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !c.alone {
		q.whole++
	}
	if c.alone && len(c.claims) > 1 || len(c.transfer.Missing()) == 0 {
		return false
	}
	c.alone = true
	return true
}

// partly notes that the source sends ranges.
func (q *queue) partly() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.whole = 0
}

// release gives a claim back, and notes whether its connection brought something.
func (q *queue) release(c *claim, progress bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.drop()
	if len(c.claims) == 0 {
		c.alone = false
	}
	if progress {
		c.trouble = trouble{}
	}
	q.wake()
}

// elsewhere lets the layer be fetched from the next repository that needs it,
// and reports whether there is one.
func (q *queue) elsewhere(l *layer, failed int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.from == failed { // nobody has moved on yet
		l.from++
	}
	return l.from < len(l.repositories)
}

// abandon lets nobody fetch the layer any more; the last who does closes it.
// It reports whether that is so: not where the layer is here already, or is
// just being committed.
func (q *queue) abandon(l *layer) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.closing || l.finished {
		return false, nil
	}
	l.unwanted = true
	if len(l.claims) > 0 {
		return true, nil
	}
	defer q.wake()
	return true, q.drop(l)
}

// finish closes the layer, for whoever committed it.
func (q *queue) finish(l *layer) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wake()
	return q.drop(l)
}

// drop closes the layer's transfer, which keeps what it has.
func (q *queue) drop(l *layer) error {
	l.finished = true
	if l.transfer == nil {
		return nil
	}
	return l.transfer.Close()
}

// forget takes back what was counted of the layers that are not finished.
func (q *queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.layers {
		if !l.finished {
			q.meter.add(l.forget)
		}
	}
}

// close makes durable what was fetched of the layers that are not finished.
func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var errs []error
	for _, l := range q.layers {
		if !l.finished {
			errs = append(errs, q.drop(l))
		}
	}
	return errors.Join(errs...)
}

func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}
