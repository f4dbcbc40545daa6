package gateway

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Limits on what the requests of all children take in memory together, in bytes.
const (
	// maxInWork is for bodies that are being read, and for what of them is in work.
	maxInWork = 24 << 20
	// smallBody is the size up to which a request is not counted: most are smaller.
	smallBody = 16 << 10
	// maxDecoding is how many bodies are decoded at a time: one takes up to 12 MiB, and
	// most a few microseconds.
	maxDecoding = 1
)

// An intake bounds the memory of requests.
type intake struct {
	room     *semaphore.Weighted // bytes
	decoding chan struct{}
}

func newIntake() *intake {
	return &intake{semaphore.NewWeighted(maxInWork), make(chan struct{}, maxDecoding)}
}

// A claim is the memory that a request was given. The zero value is none.
type claim struct {
	room  *semaphore.Weighted
	bytes int64
}

// claim gives a request memory for its body, unless it would have to wait for too long.
func (i *intake) claim(ctx context.Context, bytes int64) (*claim, error) {
	if bytes <= smallBody {
		return &claim{}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxDelay, errBusy())
	defer cancel()
	if i.room.Acquire(ctx, bytes) != nil {
		return nil, context.Cause(ctx)
	}
	return &claim{i.room, bytes}, nil
}

// keep gives a request memory for what was decoded, into c. A request does not wait
// for that: what it has decoded takes memory already.
func (i *intake) keep(c *claim, bytes int64) error {
	if bytes <= smallBody {
		return nil
	}
	if !i.room.TryAcquire(bytes) {
		return errBusy()
	}
	c.room, c.bytes = i.room, bytes
	return nil
}

// release gives the memory back. It may be called more than once.
func (c *claim) release() {
	if c.bytes > 0 {
		c.room.Release(c.bytes)
		c.bytes = 0
	}
}

// decode admits a body that came whole, until end is called.
func (i *intake) decode(ctx context.Context) (end func(), err error) {
	select {
	case i.decoding <- struct{}{}:
		return func() { <-i.decoding }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
