package download

import (
	"testing"
	"time"
)

func TestRateIsMeasuredOverTheLastSeconds(t *testing.T) {
	var m rateMeter
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if r := m.perSecond(start); r != 0 {
		t.Errorf("rate = %d before the first sample, want 0", r)
	}
	var bytes int64
	now := start
	for range 100 { // a slow minute, then a fast one
		now = now.Add(600 * time.Millisecond)
		bytes += 600
		m.add(now, bytes)
	}
	if r := m.perSecond(now); r < 900 || r > 1100 {
		t.Errorf("rate = %d, want 1000", r)
	}
	for range 100 {
		now = now.Add(600 * time.Millisecond)
		bytes += 60_000
		m.add(now, bytes)
	}
	if r := m.perSecond(now); r < 90_000 || r > 110_000 {
		t.Errorf("rate = %d, want 100000", r)
	}
	if r := m.perSecond(now.Add(rateWindow)); r != 0 {
		t.Errorf("rate = %d after %v of silence, want 0", r, rateWindow)
	}
	if n := len(m.samples); n > 50 {
		t.Errorf("%d samples are kept", n)
	}
	// After an hour without a link, the rate counts only what arrived since.
	now = now.Add(time.Hour)
	for range 5 {
		now = now.Add(time.Second)
		bytes += 10_000
		m.add(now, bytes)
	}
	if r := m.perSecond(now); r < 4_000 || r > 6_000 {
		t.Errorf("rate = %d after an outage and five seconds of 10000, want half of that", r)
	}
}
