package download

import (
	"testing"
	"time"
)

func TestRequestSizeFollowsRateAndWait(t *testing.T) {
	var s rangeSizer
	check := func(when string, smallest, largest int64) {
		t.Helper()
		if l, m := s.bounds(); l != smallest || m != largest {
			t.Errorf("%s: bounds are %d and %d bytes, want %d and %d", when, l, m, smallest, largest)
		}
	}
	check("at first", minSegment, firstSegment)
	s.observe(0, time.Second, time.Minute)
	check("after a request without a byte", minSegment, firstSegment)
	s.observe(10e6, 20*time.Millisecond, time.Second)
	check("over a near link", 400_000, 200e6)
	s.observe(300e3, 600*time.Millisecond, 10*time.Second)
	check("over a satellite", minTail, 900e3)
	s.observe(600e3, 0, 10*time.Second)
	check("after a batch, for which the wait is unknown", 72_000, 1800e3)
	s.observe(300e3, time.Minute, 10*time.Second)
	check("over a link that answers after minutes", 3600e3, 1200e3)
	s.observe(100, time.Second, 10*time.Second)
	check("over a link of ten bytes per second", minTail, minSegment)
}

// At the end of a session, a worker asks for most of a fair share of the rest, so that all
// finish together. While more blobs may be added, shares need not be fair.
func TestRangeSizeSharesTheEndFairly(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	far := rangeSizer{rate: 35_000, wait: 600 * time.Millisecond}
	fast := rangeSizer{rate: 5 << 20, wait: 50 * time.Millisecond}
	for _, test := range []struct {
		name string
		rangeInputs
		want int64
	}{
		{"while the rate is unknown", rangeInputs{rangeSizer{}, 40 * mib, 40 * mib, 0, mib, 16}, firstSegment},
		{"during a session, over a fast link", rangeInputs{fast, 40 * mib, 40 * mib, 0, mib, 16}, mib * 40 / 32},
		{"no more than eight chunks", rangeInputs{fast, 400 * mib, 400 * mib, 0, mib, 16}, 8 * mib},
		{"at the end, over a fast link", rangeInputs{fast, 40 * mib, 40 * mib, 20 * mib, mib, 4}, 4 * mib},
		{"at the end, over a slow one", rangeInputs{far, 40 * mib, 40 * mib, 16 * mib, mib, 16}, mib * 4 / 5},
		{"with next to nothing left", rangeInputs{far, 40 * mib, 40 * mib, 100, mib, 16}, 64 * kib},
		{"with a remainder too small for a request", rangeInputs{far, 90 * kib, 90 * kib, 100, mib, 16}, 90 * kib},
	} {
		t.Run(test.name, func(t *testing.T) {
			if n := rangeSize(test.rangeInputs); n != test.want {
				t.Errorf("rangeSize = %d, want %d", n, test.want)
			}
		})
	}
}
