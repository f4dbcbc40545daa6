package gateway

import (
	"context"
	"errors"

	"ferry/internal/memlimit"
)

// Limits on the memory that the requests of all children take together, in bytes.
const (
	// maxInWork is for bodies that are being read, and for decoded requests.
	maxInWork = 24 << 20
	// smallBody is the size up to which a request is not counted: most are smaller.
	smallBody = 16 << 10
	// maxDecoding is how many bodies are decoded at a time. Decoding takes up to 12 MiB, and in
	// most cases a few microseconds.
	maxDecoding = 1
)

// requestMemory bounds the memory of requests.
type requestMemory struct {
	memory   *memlimit.Pool
	decoding chan struct{}
}

func newRequestMemory() *requestMemory {
	return &requestMemory{memlimit.New(maxInWork, maxDelay), make(chan struct{}, maxDecoding)}
}

// acquire reserves memory for the body of a request, until release is called. It
// fails if the request would wait for too long.
func (i *requestMemory) acquire(ctx context.Context, bytes int64) (release func(), err error) {
	if bytes <= smallBody {
		return func() {}, nil
	}
	return busy(i.memory.Acquire(ctx, bytes))
}

// keep reserves memory for a decoded request, until release is called. It does not
// wait, because the request takes the memory already.
func (i *requestMemory) keep(bytes int64) (release func(), err error) {
	if bytes <= smallBody {
		return func() {}, nil
	}
	return busy(i.memory.TryAcquire(bytes))
}

// busy turns the lack of memory into an error for the child.
func busy(release func(), err error) (func(), error) {
	if errors.Is(err, memlimit.ErrBusy) {
		err = errBusy()
	}
	return release, err
}

// decode admits a complete body to decoding, until end is called.
func (i *requestMemory) decode(ctx context.Context) (end func(), err error) {
	select {
	case i.decoding <- struct{}{}:
		return func() { <-i.decoding }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
