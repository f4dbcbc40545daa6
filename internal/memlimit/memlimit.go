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

// A Pool is memory that requests share. It is safe for concurrent use.
type Pool struct {
	free *semaphore.Weighted
	wait time.Duration
}

// New returns a pool of bytes. A request waits no longer than wait for its memory.
func New(bytes int64, wait time.Duration) *Pool {
	return &Pool{semaphore.NewWeighted(bytes), wait}
}

// Acquire takes bytes from the pool as soon as they are free. release returns them, and may
// be called more than once. The error is [ErrBusy], or the cause of the end of ctx.
func (p *Pool) Acquire(ctx context.Context, bytes int64) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	if p.free.Acquire(waiting, bytes) == nil {
		return p.release(bytes), nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, ErrBusy
}

// TryAcquire is [Pool.Acquire] without waiting.
func (p *Pool) TryAcquire(bytes int64) (release func(), err error) {
	if !p.free.TryAcquire(bytes) {
		return nil, ErrBusy
	}
	return p.release(bytes), nil
}

func (p *Pool) release(bytes int64) func() {
	return sync.OnceFunc(func() { p.free.Release(bytes) })
}
