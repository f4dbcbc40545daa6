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
	// largeHeap is the size in bytes, with the stacks, from which a heap is large.
	largeHeap = 20 << 20
	// smallMemory is the memory limit of the Go runtime while the heap is small, in bytes.
	// Garbage of a burst is then collected sooner, so that a connected registry stays within
	// 64 MiB.
	smallMemory = 30 << 20
	// gcPercentLarge is GOGC for a large heap. With the normal value, a parent of ten
	// thousand children has ten kilobytes of garbage for each held poll. For a small heap,
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
	afterCollections(ctx, false)
}

// afterCollections applies the size of the heap after each collection.
func afterCollections(ctx context.Context, wasLarge bool) {
	collected := new(*byte) // unreachable, so the next collection runs its cleanup
	runtime.AddCleanup(collected, func(ctx context.Context) {
		if ctx.Err() != nil {
			return
		}
		large := inUse() > largeHeap
		switch {
		case large && !wasLarge:
			debug.SetMemoryLimit(math.MaxInt64)
			debug.SetGCPercent(gcPercentLarge)
		case !large && wasLarge:
			debug.SetMemoryLimit(smallMemory)
			debug.SetGCPercent(gcPercentNormal)
		}
		afterCollections(ctx, large)
	}, ctx)
}

// inUse returns the bytes of heap that survived the last collection, and of stacks.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
