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
)

// limitMemory sets GOGC and the memory limit by the size of the heap, now and after each
// collection until ctx ends. It does nothing if GOGC or GOMEMLIMIT are in the environment.
func limitMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(smallMemory)
	afterCollections(ctx, smallMemory)
}

// afterCollections applies the size of the heap after each collection. limit is the limit
// that is set.
func afterCollections(ctx context.Context, limit int64) {
	collected := new(*byte) // unreachable, so the next collection runs its cleanup
	runtime.AddCleanup(collected, func(ctx context.Context) {
		if ctx.Err() != nil {
			return
		}
		next := limitFor(inUse())
		if next != limit {
			debug.SetMemoryLimit(next)
			if next == math.MaxInt64 {
				debug.SetGCPercent(gcPercentLarge)
			} else {
				debug.SetGCPercent(gcPercentNormal)
			}
		}
		afterCollections(ctx, next)
	}, ctx)
}

// limitFor returns the memory limit of the Go runtime for a heap of so many bytes.
func limitFor(inUse uint64) int64 {
	switch {
	case inUse <= smallHeap:
		return smallMemory
	case inUse <= mediumHeap:
		return mediumMemory
	}
	return math.MaxInt64
}

// inUse returns the bytes of heap that survived the last collection, and of stacks.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
