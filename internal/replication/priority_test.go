package replication_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/faultnet"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// byFirstLetter orders repositories by their first letter, a first. It excludes z.
func byFirstLetter(repository string) (rank int, wanted bool) {
	return int(repository[0]), repository[0] != 'z'
}

func TestOrderDecidesWhenAndWhetherItemsAreFetched(t *testing.T) {
	p := newParent(t)
	for i, repository := range []string{"a/1", "b", "a/2", "c", "z"} {
		p.image(repository, [][]byte{randomBytes(uint64(i), 1000)}, "v1", "v2")
	}
	r := newReplica(t, p, replication.Options{})
	r.SetOrder(byFirstLetter)
	r.follow()
	if n, err := r.Wanted(t.Context()); n != 8 || err != nil {
		t.Errorf("Wanted = %d, %v, want 8", n, err)
	}
	var mu sync.Mutex
	var asked []string
	src := &planSource{Source: r.source, onRequest: func(all []replication.Ref) {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range all {
			asked = append(asked, w.Repository)
		}
	}}
	if result, err := r.Sync(t.Context(), src); err != nil || result.Synced != 8 {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"a/1", "a/2", "b", "c"}, slices.Compact(asked)); diff != "" {
		t.Error(diff)
	}
	if n, err := r.Wanted(t.Context()); n != 0 || err != nil {
		t.Errorf("Wanted = %d, %v, want 0", n, err)
	}
	r.SetOrder(nil)
	r.sync()
	assertInSync(t, p, r.Storage)
}

// A slowSync is a running Sync of a layer that takes half a minute, over a link of 100 KiB/s.
type slowSync struct {
	*replica
	parent *parent
	t      *testing.T
	start  time.Time
	done   chan replication.Result
}

func startSlowSync(t *testing.T, repository string) *slowSync {
	p := newPipeParent(t)
	p.image(repository, [][]byte{randomBytes(1, 3<<20)}, "v1")
	p.network.Set(faultnet.Faults{Rate: 100 << 10})
	s := &slowSync{replica: newReplica(t, p, replication.Options{Connections: 4}), parent: p, t: t, start: time.Now(),
		done: make(chan replication.Result, 1)}
	s.SetOrder(byFirstLetter)
	s.follow()
	go func() { s.done <- s.sync() }()
	time.Sleep(2 * time.Second)
	return s
}

// waitForImage returns how long it took until the tag v1 of a repository was visible.
func (s *slowSync) waitForImage(repository string) time.Duration {
	s.t.Helper()
	for time.Since(s.start) < time.Hour {
		if _, err := s.Manifest(s.t.Context(), repository, "v1"); err == nil {
			return time.Since(s.start)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%s:v1 is not visible after an hour: %v", repository, s.items())
	return 0
}

// finish waits for the end of the Sync. The replica must be in sync, and must have received
// every byte once.
func (s *slowSync) finish(bytes int64) {
	s.t.Helper()
	if result := <-s.done; result.Received < bytes || result.Received > bytes+bytes/100 {
		s.t.Errorf("%d bytes were received, want about %d", result.Received, bytes)
	}
	if p := s.Progress(); p.BytesDone != p.BytesTotal || p.ItemsDone < 2 {
		s.t.Errorf("progress at the end: %+v", p)
	}
	assertInSync(s.t, s.parent, s.Storage)
}

func TestUrgentItemOvertakesInARunningSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSlowSync(t, "b")
		s.parent.image("a", [][]byte{randomBytes(2, 100<<10)}, "v1")
		s.follow()
		first, second := s.waitForImage("a"), s.waitForImage("b")
		if first > 15*time.Second || second < 25*time.Second {
			t.Errorf("the urgent image was visible after %v, the other after %v", first, second)
		}
		s.finish(3<<20 + 100<<10)
	})
}

func TestMovedTagCancelsItsOldImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSlowSync(t, "b")
		moved := s.parent.image("b", [][]byte{randomBytes(2, 100<<10)}, "v1")
		s.follow()
		if result := <-s.done; result.Received > 3<<19 { // requests in flight are answered
			t.Errorf("%d bytes were received, most of them for a cancelled image", result.Received)
		}
		if m, err := s.Manifest(t.Context(), "b", "v1"); err != nil || m.Digest != moved.Digest {
			t.Errorf("the tag names %v, %v", m, err)
		}
		assertInSync(t, s.parent, s.Storage)
	})
}

func TestNewOrderAppliesToTheRunningSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSlowSync(t, "b")
		s.parent.image("c", [][]byte{randomBytes(2, 100<<10)}, "v1")
		s.follow()
		s.SetOrder(func(repository string) (int, bool) { return -int(repository[0]), true })
		first, second := s.waitForImage("c"), s.waitForImage("b")
		if first > 15*time.Second || second < 25*time.Second {
			t.Errorf("the first image was visible after %v, the other after %v", first, second)
		}
		s.finish(3<<20 + 100<<10)
	})
}

func TestLateItemComesBeforeLessUrgentOnes(t *testing.T) {
	p := newParent(t)
	for i := range 150 { // more than are in flight at a time
		p.image(fmt.Sprintf("c/%03d", i), [][]byte{randomBytes(uint64(i), 20<<10)}, "v1")
	}
	p.image("b/2", [][]byte{randomBytes(1000, 20<<10)}, "v1")
	r := newReplica(t, p, replication.Options{})
	r.SetOrder(byFirstLetter)
	r.follow()
	var once sync.Once
	var mu sync.Mutex
	var asked []string
	src := &planSource{Source: r.source, onRequest: func(all []replication.Ref) {
		once.Do(func() { // while b is planned
			p.image("b/1", [][]byte{randomBytes(2000, 20<<10)}, "v1")
			r.follow()
		})
		mu.Lock()
		defer mu.Unlock()
		for _, w := range all {
			asked = append(asked, strings.Split(w.Repository, "/")[0])
		}
	}}
	if result, err := r.Sync(t.Context(), src); err != nil || result.Synced != 152 {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"b", "c"}, slices.Compact(asked)); diff != "" {
		t.Error(diff)
	}
	assertInSync(t, p, r.Storage)
}

// A Sync whose order excludes a repository keeps the partial layers of that repository, even
// if they are older than the grace period.
func TestExcludedRepositoryKeepsItsPartialLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		const size = 8 << 20
		p.image("slow", [][]byte{randomBytes(1, size)}, "v1")
		r := newReplica(t, p, replication.Options{ChunkSize: 256 << 10})
		r.follow()
		p.network.Set(faultnet.Faults{Rate: 16 << 20})
		ctx, cancel := context.WithCancelCause(t.Context())
		p.onSent.Store(func(sent int64) {
			if sent > 6<<20 {
				cancel(errClosed)
			}
		})
		first, err := r.Sync(ctx, r.source)
		if err == nil {
			t.Fatal("the first sync was not stopped")
		}
		p.onSent.Store(func(int64) {})
		p.image("urgent", [][]byte{randomBytes(2, 1000)}, "v1")
		r.follow()
		r.SetOrder(func(repository string) (int, bool) { return 0, repository == "urgent" })
		r.sync()
		r.SetOrder(nil)
		time.Sleep(2 * grace)
		if _, err := r.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if last := r.sync(); last.Received > size-first.Received+storage.MaxLoss {
			t.Errorf("%d bytes were received again", last.Received+first.Received-size)
		}
	})
}
