package download

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"ferry/internal/storage"
)

func TestBlobsAreOrderedByPriorityAndBytesLeft(t *testing.T) {
	d := New(Options{})
	d.StartSession(nil)
	add := func(name string, r Rank) *Blob {
		b := &Blob{Digest: digest.FromString(name), Size: 1, Repositories: []string{name}}
		d.Rank(b, r)
		d.Add(b)
		return b
	}
	late := add("late", Rank{Priority: 1, Left: 1})
	add("large", Rank{Left: 100})
	add("small", Rank{Left: 10})
	add("small, too", Rank{Left: 10})
	bad := add("deferred", Rank{Left: 1})
	d.mu.Lock()
	bad.deferral.active = true
	d.requeue(bad, time.Now())
	d.mu.Unlock()
	d.Rank(late, Rank{Priority: -1, Left: 1000})
	var got []string
	for h := d.queue.ready; len(h) > 0; {
		got = append(got, heap.Pop(&h).(*Blob).Repositories[0])
	}
	if diff := cmp.Diff([]string{"late", "small", "small, too", "large", "deferred"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlySmallPendingBlobsAreBatched(t *testing.T) {
	d := New(Options{Connections: 1})
	d.StartSession(nil)
	var want []*Blob
	for i := range 5 {
		b := &Blob{Digest: digest.FromString(fmt.Sprint(i)), Size: 1000, Repositories: []string{"a"}, Batch: true}
		d.Add(b)
		want = append(want, b)
	}
	for _, o := range []Blob{{Size: 1 << 20, Batch: true}, {Size: 1000}, {Size: 0, Batch: true}} {
		o.Repositories = []string{"a"}
		d.Add(&o)
	}
	j, _ := d.pickJob(time.Now())
	if !slices.Equal(j.open, want) {
		t.Errorf("%d blobs are in the batch, want the first %d", len(j.open), len(want))
	}
	if left := d.PendingBytes(); left != 1<<20+1000 {
		t.Errorf("PendingBytes = %d", left)
	}
}

// A transfer that is never closed would be busy in all later sessions.
func TestCanceledWorkerLeavesTransfersToClose(t *testing.T) {
	d := New(Options{})
	d.StartSession(nil)
	d.queue.toClose = make([]*storage.Transfer, 1)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := d.nextJob(ctx); err == nil {
		t.Error("nextJob returned a job after ctx ended")
	}
	if n := len(d.queue.toClose); n != 1 {
		t.Errorf("%d transfers are in toClose, want 1", n)
	}
}

func TestBytesDoneStayWithinTheTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := New(Options{})
		blobs := []*Blob{{Size: 0}, {Size: 10}, {Size: 1000}}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			b := rapid.SampledFrom(blobs).Draw(t, "blob")
			n := rapid.Int64Range(-2000, 2000).Draw(t, "bytes")
			switch rapid.IntRange(0, 2).Draw(t, "operation") {
			case 0:
				if b.bytesExpected == 0 { // each blob is added once
					d.countExpected(b)
				}
			case 1:
				d.countDone(b, n)
			case 2:
				d.uncount(b)
			}
			if p := d.Progress(); p.BytesDone < 0 || p.BytesDone > p.BytesTotal {
				t.Fatalf("%d of %d bytes done", p.BytesDone, p.BytesTotal)
			}
		}
	})
}
