package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// join returns c with other layers that can come in the same answer: each is
// small, and would cost a round trip of its own. They are the share of one who
// fetches of all that wait, so that the others have some, too.
func (q *queue) join(ctx context.Context, c *claim, reach extent, err error) []*claim {
	if c == nil {
		return nil
	}
	claims := []*claim{c}
	if err != nil || !c.small(q.chunk) || !c.all() {
		return claims
	}
	now := time.Now()
	var others []*layer
	waiting := c.size
	for _, l := range q.layers {
		if l.joins(q.chunk, now) {
			others = append(others, l)
			waiting += l.size
		}
	}
	room := min(waiting/int64(q.hands()), reach.most) - c.size
	for _, l := range others {
		if room -= l.size; room < 0 || len(claims) == gateway.MaxBatch {
			break
		}
		other, err := q.claim(ctx, l, reach)
		if other == nil {
			break
		}
		if err != nil || !other.all() { // for whoever looks at it next
			l.closing = false
			other.drop()
			break
		}
		claims = append(claims, other)
	}
	return claims
}

// small reports whether a layer can come in a batch.
func (l *layer) small(chunk int64) bool {
	return l.batch && l.size > 0 && l.size <= min(chunk, leastSegment)
}

// joins reports whether a layer that nobody looked at yet can come in a batch.
func (l *layer) joins(chunk int64, now time.Time) bool {
	return l.small(chunk) && l.transfer == nil && !l.finished && !l.closing && !l.unwanted && len(l.claims) == 0 && !now.Before(l.trouble.until)
}

// tryBatch fetches layers in one answer. A layer that does not come so, or at
// which the answer breaks off, comes for itself next.
func (r *run) tryBatch(ctx context.Context, q *queue, claims []*claim, buf []byte, hands *crew) error {
	start := time.Now()
	fresh, err := r.fetchBatch(ctx, q, claims, buf)
	var sum int64
	for i, c := range claims {
		sum += fresh[i]
		r.release(q, c, fresh[i])
	}
	hands.stride.brought(sum, 0, time.Since(start))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if own := (ownError{}); errors.As(err, &own) {
		return own.error
	}
	if err != nil {
		r.log.Debug("what is left of a batch is fetched again", "layers", len(claims), "bytes", sum, "err", err)
		if asked := retry.After(err); asked > 0 || !answered(err) {
			r.link.failed(asked, err)
		}
	}
	return nil
}

// fetchBatch brings what it can of the claims, and returns how many bytes came
// of each that were not here.
func (r *run) fetchBatch(ctx context.Context, q *queue, claims []*claim, buf []byte) (fresh []int64, _ error) {
	fresh = make([]int64, len(claims))
	if err := r.link.wait(ctx); err != nil {
		return fresh, err
	}
	ctx, watchdog := retry.Watch(ctx, r.stall)
	defer watchdog.Stop()
	want := make([]wire.Want, len(claims))
	for i, c := range claims {
		want[i] = wire.Want{Repository: c.repositories[c.repository], Digest: c.digest}
	}
	at := 0 // the one that comes
	err := r.src.(Batcher).Batch(ctx, want, func(i int, size int64, content io.Reader) error {
		if at = i; content == nil {
			q.alone(claims[i])
			return nil
		}
		if size != claims[i].size {
			return fmt.Errorf("blob %s: %w: it has %d bytes, not %d", want[i].Digest, errGarbled, size, claims[i].size)
		}
		s := &stream{run: r, claim: claims[i], buf: buf, watchdog: watchdog, body: content}
		err := s.until(ctx, size)
		fresh[i] = s.fresh
		return err
	})
	if err == nil {
		return fresh, nil
	}
	if answered(err) {
		q.alone(claims...)
	}
	q.alone(claims[at])
	return fresh, cause(ctx, err)
}

// alone lets layers come for themselves.
func (q *queue) alone(claims ...*claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range claims {
		c.batch = false
	}
}
