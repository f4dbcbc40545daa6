package gateway

import (
	"context"
	"errors"

	"ferry/internal/memlimit"
)

// Limits on what the requests of all children take in memory together, in bytes.
const (
	// maxInWork is for bodies that are being read, and for requests that are in work.
	maxInWork = 24 << 20
	// smallBody is the size up to which a request is not counted: most are smaller.
	smallBody = 16 << 10
	// maxDecoding is how many bodies are decoded at a time: one takes up to 12 MiB, and
	// most a few microseconds.
	maxDecoding = 1
)

// An intake bounds the memory of requests.
type intake struct {
	memory   *memlimit.Budget
	decoding chan struct{}
}

func newIntake() *intake {
	return &intake{memlimit.New(maxInWork, maxDelay), make(chan struct{}, maxDecoding)}
}

// acquire gives a request memory for its body, until release is called, unless the
// request would have to wait for too long.
func (i *intake) acquire(ctx context.Context, bytes int64) (release func(), err error) {
	if bytes <= smallBody {
		return func() {}, nil
	}
	return busy(i.memory.Acquire(ctx, bytes))
}

// keep gives a request memory for what was decoded, until release is called. A request
// does not wait for that: what it has decoded takes memory already.
func (i *intake) keep(bytes int64) (release func(), err error) {
	if bytes <= smallBody {
		return func() {}, nil
	}
	return busy(i.memory.TryAcquire(bytes))
}

// busy tells a child that there is no memory.
func busy(release func(), err error) (func(), error) {
	if errors.Is(err, memlimit.ErrBusy) {
		err = errBusy()
	}
	return release, err
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
