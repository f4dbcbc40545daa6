package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits on the work that a parent does at a time.
const (
	// maxWorking is how many requests read or write the database at a time.
	maxWorking = 16
	// maxDelay is how long a new request may wait for its turn. A request that would wait longer is
	// refused, so that it does not slow down the others.
	maxDelay = 2 * time.Second
	// maxStreams is how many plans and batches are sent at a time.
	maxStreams = 256
	// maxLarge is how many of them have large manifests.
	maxLarge = 16
	// busyRetryMin and busyRetryMax bound the Retry-After of a refused request, in seconds. It is
	// random, so that the children do not return all at once.
	busyRetryMin, busyRetryMax = 3, 15
	// notReadyRetryMin and notReadyRetryMax bound it for a parent that does not know its children
	// yet. One answer of its own parent changes that.
	notReadyRetryMin, notReadyRetryMax = 1, 3
)

// The codes of a parent that has too many requests, and of one whose database does not answer.
const (
	codeBusy        = "BUSY"
	codeUnavailable = "UNAVAILABLE"
)

func errBusy() error {
	return problem(http.StatusServiceUnavailable, codeBusy, "the parent has too much to do just now")
}

// admission bounds the work that runs at a time. Work runs in a goroutine of its
// own, because it needs a large stack for SQL, which a held request would keep.
type admission struct {
	turns   chan struct{}
	streams chan struct{}
	large   chan struct{} // streams with large manifests

	waiting atomic.Int64 // requests that wait for their turn
	took    atomic.Int64 // nanoseconds that a piece of work took, a moving average
}

func newAdmission() *admission {
	return &admission{
		turns: make(chan struct{}, maxWorking), streams: make(chan struct{}, maxStreams),
		large: make(chan struct{}, maxLarge),
	}
}

// check returns an error if a new request would wait for too long.
func (a *admission) check() error {
	if time.Duration(a.waiting.Load()*a.took.Load())/maxWorking > maxDelay {
		return errBusy()
	}
	return nil
}

// enter does the work of a new request, unless that would wait for too long.
func (a *admission) enter(ctx context.Context, work func() error) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.do(ctx, work)
}

// do waits for the turn of an admitted request, and does its work.
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
