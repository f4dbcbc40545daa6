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
	// largeHeap is how many bytes in use, with the stacks, make a heap large.
	largeHeap = 20 << 20
	// smallMemory is the limit, in bytes, of all that Go takes while the heap is small:
	// a burst is then collected sooner, so that a site stays within 64 MiB.
	smallMemory = 30 << 20
	// often is GOGC for a large heap: a parent of ten thousand would have ten
	// kilobytes of garbage for each poll that it holds. While the heap is small,
	// that would cost the requests more than it saves.
	often, normal = 50, 100
)

// limitMemory sets when Go collects garbage, now and after each collection
// until ctx ends. GOGC or GOMEMLIMIT in the environment leave that to whoever set them.
func limitMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(smallMemory)
	afterCollections(ctx, false)
}

// afterCollections looks at the heap after each collection.
func afterCollections(ctx context.Context, wasLarge bool) {
	collected := new(*byte) // the next collection finds it unused
	runtime.AddCleanup(collected, func(ctx context.Context) {
		if ctx.Err() != nil {
			return
		}
		large := inUse() > largeHeap
		switch {
		case large && !wasLarge:
			debug.SetMemoryLimit(math.MaxInt64)
			debug.SetGCPercent(often)
		case !large && wasLarge:
			debug.SetMemoryLimit(smallMemory)
			debug.SetGCPercent(normal)
		}
		afterCollections(ctx, large)
	}, ctx)
}

// inUse is how many bytes of heap the last collection found in use, and of stacks there are.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
