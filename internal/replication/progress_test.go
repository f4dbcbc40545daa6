package replication_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/faultnet"
	"ferry/internal/replication"
)

// The first plan has 32 items. The source does not answer the second one, of 8 items.
func TestProgressCountsUnplannedItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const items, first, size = 40, 32, 20 << 10
		p := newPipeParent(t)
		for i := range items {
			p.image("app", [][]byte{randomBytes(uint64(i), size)}, fmt.Sprintf("v%02d", i))
		}
		r := newReplica(t, p, replication.Options{})
		r.follow()
		unplanned := func(want int) {
			t.Helper()
			if n, err := r.ItemsUnplanned(t.Context()); n != want || err != nil {
				t.Errorf("ItemsUnplanned = %d, %v; want %d", n, err, want)
			}
		}
		unplanned(items)
		plans, answer := 0, make(chan struct{})
		src := &planSource{Source: r.source, onRequest: func([]replication.Ref) {
			if plans++; plans == 2 {
				<-answer
			}
		}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Sync(ctx, src)
		}()
		time.Sleep(time.Minute)
		now := r.Progress()
		if now.ItemsTotal != items || now.ItemsDone != first || now.ItemsUnplanned() != items-first ||
			now.BytesTotal != first*size {
			t.Errorf("while the second plan is pending: Progress = %+v", now)
		}
		unplanned(items - first)
		close(answer)
		<-done
		if now = r.Progress(); now.ItemsUnplanned() != 0 || now.BytesTotal != items*size {
			t.Errorf("at the end: Progress = %+v", now)
		}
		unplanned(0)
	})
}

func TestInFlightReportsProgressAndTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100 << 10 // of the link
		p := newPipeParent(t)
		shared := randomBytes(1, 1<<20)
		small := p.image("a", [][]byte{shared}, "v1", "latest")
		large := p.image("b", [][]byte{shared, randomBytes(2, 2<<20)}, "v1")
		p.network.Set(faultnet.Faults{Rate: rate})
		r := newReplica(t, p, replication.Options{Connections: 4})
		r.follow()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Sync(ctx, r.source)
		}()
		time.Sleep(6 * time.Second)
		all := r.InFlight()
		if len(all) != 2 || all[0].Digest != small.Digest || all[1].Digest != large.Digest || len(all[0].Items) != 2 {
			t.Fatalf("InFlight = %+v", all)
		}
		first, second := all[0], all[1]
		if first.BytesTotal != 1<<20 || first.BytesDone < 4*rate || first.BytesDone > 7*rate ||
			first.BytesPerSecond < rate/2 {
			t.Errorf("first image: %+v", first)
		}
		if second.BytesTotal != 3<<20 || second.BytesDone < first.BytesDone {
			t.Errorf("second image: %+v", second)
		}
		near := func(u replication.InFlight, want time.Duration) {
			t.Helper()
			if u.TimeLeft < want-5*time.Second || u.TimeLeft > want+5*time.Second {
				t.Errorf("%s: TimeLeft = %v, want about %v", u.Repository, u.TimeLeft, want)
			}
		}
		near(first, 5*time.Second)
		near(second, 25*time.Second)

		// After a stop, the progress stays as it was.
		stop()
		<-done
		all = r.InFlight()
		if len(all) != 2 || all[0].BytesDone < first.BytesDone || all[0].BytesPerSecond != 0 || all[0].TimeLeft >= 0 {
			t.Errorf("after a stop: InFlight = %+v", all)
		}
		p.network.Set(faultnet.Faults{})
		r.sync()
		if all = r.InFlight(); len(all) > 0 {
			t.Errorf("at the end: InFlight = %+v", all)
		}
	})
}
