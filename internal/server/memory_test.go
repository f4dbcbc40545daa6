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
	removeLimitAfter(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	limitMemory(ctx, true)
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

func TestLimitThatLeavesNoRoomIsForSmallerHeaps(t *testing.T) {
	removeLimitAfter(t)
	l := newMemoryLimiter(false)
	for _, step := range []struct {
		live, goal uint64 // in MiB
		want       int64
	}{
		{12, 18, smallMemory},
		{12, 14, mediumMemory},
		{12, 16, mediumMemory},
		{11, 16, smallMemory},
		{12, 13, mediumMemory},
		{12, 14, math.MaxInt64},
		{12, 18, math.MaxInt64},
		{10, 18, smallMemory},
	} {
		l.apply(heap{live: step.live << 20, goal: step.goal << 20})
		if l.limit != step.want || debug.SetMemoryLimit(-1) != step.want {
			t.Errorf("with %d MiB that may become %d, the limit is %d, want %d",
				step.live, step.goal, l.limit, step.want)
		}
	}
}

func removeLimitAfter(t *testing.T) {
	t.Cleanup(func() {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(gcPercentNormal)
	})
}
