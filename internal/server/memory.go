package server

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// smallHeap and mediumHeap are the largest sizes in bytes, with the stacks, of a small
	// and a medium heap. A larger heap has no limit.
	smallHeap, mediumHeap = 17 << 20, 23 << 20
	// smallMemory and mediumMemory are the memory limits of the Go runtime while the heap is
	// small or medium, in bytes. Garbage of a burst is then collected sooner, so that a
	// connected registry stays within 64 MiB.
	smallMemory, mediumMemory = 26 << 20, 29 << 20
	// gcPercentLarge is GOGC for a large heap. With the normal value, a parent of ten
	// thousand children has ten kilobytes of garbage for each held poll. For a smaller heap,
	// it would cost more time than the memory is worth.
	gcPercentLarge, gcPercentNormal = 50, 100
	// leastRoom is the least room for garbage in a root, as a part of the heap. A limit that
	// leaves less makes the runtime collect garbage nearly all the time.
	leastRoom = 4
)

// A memoryLimiter sets GOGC and the memory limit by the size of the heap.
type memoryLimiter struct {
	strict        bool   // the limits hold whatever room they leave
	limit         int64  // that is set
	small, medium uint64 // the largest sizes of a small and a medium heap
}

// limitMemory limits the memory now and after each collection until ctx ends: that of a connected
// registry strictly. It does nothing if GOGC or GOMEMLIMIT are in the environment.
func limitMemory(ctx context.Context, connected bool) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	newMemoryLimiter(connected).afterCollections(ctx)
}

func newMemoryLimiter(strict bool) *memoryLimiter {
	l := &memoryLimiter{strict: strict, small: smallHeap, medium: mediumHeap}
	l.set(smallMemory)
	return l
}

// afterCollections applies the size of the heap after each collection.
func (l *memoryLimiter) afterCollections(ctx context.Context) {
	collected := new(*byte) // unreachable, so the next collection runs its cleanup
	runtime.AddCleanup(collected, func(ctx context.Context) {
		if ctx.Err() == nil {
			l.apply(readHeap())
			l.afterCollections(ctx)
		}
	}, ctx)
}

// apply sets the limit for a heap. The limit also counts memory outside the heap, so it may leave no room
// for garbage. In a root, such a limit is then only for smaller heaps.
func (l *memoryLimiter) apply(h heap) {
	if !l.strict && h.goal < h.live+h.live/leastRoom {
		switch l.limit {
		case smallMemory:
			l.small = min(l.small, h.inUse()-1)
		case mediumMemory:
			l.medium = min(l.medium, h.inUse()-1)
		}
	}
	if next := l.limitFor(h.inUse()); next != l.limit {
		l.set(next)
	}
}

// limitFor returns the memory limit of the Go runtime for a heap of so many bytes.
func (l *memoryLimiter) limitFor(inUse uint64) int64 {
	switch {
	case inUse <= l.small:
		return smallMemory
	case inUse <= l.medium:
		return mediumMemory
	}
	return math.MaxInt64
}

func (l *memoryLimiter) set(limit int64) {
	l.limit = limit
	debug.SetMemoryLimit(limit)
	if limit == math.MaxInt64 {
		debug.SetGCPercent(gcPercentLarge)
	} else {
		debug.SetGCPercent(gcPercentNormal)
	}
}

// A heap is the size of the heap after a collection, in bytes.
type heap struct {
	live, stacks uint64 // that survived it
	goal         uint64 // the size at which the next collection ends
}

func (h heap) inUse() uint64 { return h.live + h.stacks }

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/goal:bytes"},
	}
	metrics.Read(samples)
	return heap{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()}
}
