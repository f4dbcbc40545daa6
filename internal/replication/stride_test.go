package replication

import (
	"testing"
	"time"

	"ferry/internal/storage"
)

func TestARequestIsAsLongAsTheWaitForItsAnswerIsWorth(t *testing.T) {
	var s stride
	check := func(when string, least, most int64) {
		t.Helper()
		if e := s.extent(); e != (extent{least, most}) {
			t.Errorf("%s: asks for %d to %d bytes, want %d to %d", when, e.least, e.most, least, most)
		}
	}
	check("at first", leastSegment, firstSegment)
	s.brought(0, time.Second, time.Minute)
	check("after a request in vain", leastSegment, firstSegment)
	s.brought(10e6, 20*time.Millisecond, time.Second)
	check("over a near link", 400_000, 200e6)
	s.brought(300e3, 600*time.Millisecond, 10*time.Second)
	check("over a satellite", lastSegment, 900e3)
	s.brought(600e3, 0, 10*time.Second)
	check("after a batch, which says nothing of the wait", 72_000, 1800e3)
	s.brought(300e3, time.Minute, 10*time.Second)
	check("over a link that lets wait for minutes", 3600e3, 1200e3)
	s.brought(100, time.Second, 10*time.Second)
	check("over a link that brings next to nothing", lastSegment, leastSegment)
}

// Of what is left in the end, those who are done early ask for most of a fair
// share, so that nobody is waited for; as long as more layers may come, a share
// need not be fair.
func TestTheEndIsSharedOut(t *testing.T) {
	const mib = 1 << 20
	whole := []storage.Range{{Start: 0, End: 40 * mib}}
	for _, test := range []struct {
		name string
		gaps []storage.Range
		segmenting
		want int64
	}{
		{"at first", whole, segmenting{mib, 16, extent{64 << 10, mib}, 60 * mib}, mib},
		{"over a fast link, in the end", whole, segmenting{mib, 4, extent{mib / 2, 100 * mib}, 20 * mib}, 4 * mib},
		{"over a slow one", whole, segmenting{mib, 16, extent{64 << 10, mib}, 16 * mib}, mib * 4 / 5},
		{"with next to nothing left", whole, segmenting{mib, 16, extent{64 << 10, mib}, 100}, 64 << 10},
		{"with crumbs left", []storage.Range{{Start: 7, End: 7 + 90<<10}}, segmenting{mib, 16, extent{64 << 10, mib}, 100}, 90 << 10},
		{"before layers that are not planned yet", whole, segmenting{mib, 16, extent{64 << 10, 8 * mib}, 0}, mib * 40 / 32},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &layer{size: 40 * mib}
			if n := l.segment(test.gaps, test.segmenting).Len(); n != test.want {
				t.Errorf("asks for %d bytes, want %d", n, test.want)
			}
		})
	}
}
