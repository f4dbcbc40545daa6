// Package memlimit bounds the memory that requests take together.
package memlimit

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBusy is returned if too little memory becomes free in time.
var ErrBusy = errors.New("too little memory is free")

// A Budget is memory that requests share. It is safe for concurrent use.
type Budget struct {
	free *semaphore.Weighted
	wait time.Duration
}

// New returns a budget of so many bytes. A request waits for its memory up to wait.
func New(bytes int64, wait time.Duration) *Budget {
	return &Budget{semaphore.NewWeighted(bytes), wait}
}

// Acquire takes bytes from the budget as soon as they are free. release returns them, and may
// be called more than once. The error is [ErrBusy], or the cause of the end of ctx.
func (b *Budget) Acquire(ctx context.Context, bytes int64) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	if b.free.Acquire(waiting, bytes) == nil {
		return b.release(bytes), nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, ErrBusy
}

// TryAcquire is [Budget.Acquire] without waiting.
func (b *Budget) TryAcquire(bytes int64) (release func(), err error) {
	if !b.free.TryAcquire(bytes) {
		return nil, ErrBusy
	}
	return b.release(bytes), nil
}

func (b *Budget) release(bytes int64) func() {
	return sync.OnceFunc(func() { b.free.Release(bytes) })
}
