package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits on what a parent does at a time.
const (
	// maxWorking is how many requests read or write the database at a time.
	maxWorking = 16
	// maxDelay is how long a new request may have to wait for its turn. One that
	// would wait longer is put off, so that the others are not slow, too.
	maxDelay = 2 * time.Second
	// maxStreams is how many plans and batches are sent at a time.
	maxStreams = 256
	// maxLarge is how many of them have large manifests.
	maxLarge = 16
	// putOffLeast and putOffMost are between how many seconds a request is put
	// off, each for another time.
	putOffLeast, putOffMost = 3, 15
	// notReadyLeast and notReadyMost are the same of a parent that does not know
	// its children yet: it knows them with one answer of its own parent.
	notReadyLeast, notReadyMost = 1, 3
)

// codeBusy is the code of a parent that is asked for more than it can give.
const codeBusy = "BUSY"

func errBusy() error {
	return problem(http.StatusServiceUnavailable, codeBusy, "the parent has too much to do just now")
}

// admission gives work its turn. Work is done in a goroutine of its own: the
// stack that SQL needs is not kept by a request that is held afterwards.
type admission struct {
	turns   chan struct{}
	streams chan struct{}
	large   chan struct{} // streams with large manifests

	waiting atomic.Int64 // requests that await their turn
	took    atomic.Int64 // nanoseconds by a piece of work, on average of late
}

func newAdmission() *admission {
	return &admission{
		turns: make(chan struct{}, maxWorking), streams: make(chan struct{}, maxStreams),
		large: make(chan struct{}, maxLarge),
	}
}

// check returns an error where a new request would have to wait for too long.
func (a *admission) check() error {
	if time.Duration(a.waiting.Load()*a.took.Load())/maxWorking > maxDelay {
		return errBusy()
	}
	return nil
}

// enter does work for a new request, unless it would have to wait for too long.
func (a *admission) enter(ctx context.Context, work func() error) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.do(ctx, work)
}

// do does work for a request that was admitted, when it is its turn.
func (a *admission) do(ctx context.Context, work func() error) error {
	a.waiting.Add(1)
	select {
	case a.turns <- struct{}{}:
		a.waiting.Add(-1)
	case <-ctx.Done():
		a.waiting.Add(-1)
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() {
		start := time.Now()
		err := work()
		a.took.Add((int64(time.Since(start)) - a.took.Load()) / 16)
		<-a.turns
		done <- err
	}()
	return <-done
}

// stream admits a plan or a batch, until end is called.
func (a *admission) stream() (end func(), err error) {
	select {
	case a.streams <- struct{}{}:
		return func() { <-a.streams }, nil
	default:
		return nil, errBusy()
	}
}
