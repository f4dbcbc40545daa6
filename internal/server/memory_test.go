package server

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsLimitedWhileTheHeapIsSmall(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(gcPercentNormal)
	})
	limitMemory(ctx)
	await := func(when string, want int64) {
		t.Helper()
		for range 10_000 {
			if debug.SetMemoryLimit(-1) == want {
				return
			}
			runtime.GC()
			runtime.Gosched()
		}
		t.Errorf("%s the limit is %d, want %d", when, debug.SetMemoryLimit(-1), want)
	}
	await("at first", smallMemory)
	medium := make([]byte, smallHeap)
	await("with a medium heap", mediumMemory)
	large := make([]byte, smallHeap)
	await("with a large heap", math.MaxInt64)
	runtime.KeepAlive(large)
	await("with a medium heap again", mediumMemory)
	runtime.KeepAlive(medium)
	await("with a small one again", smallMemory)
}
