package download

import (
	"testing"
	"time"
)

func TestPaceIsThatOfTheLastSeconds(t *testing.T) {
	var p pace
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if r := p.rate(start); r != 0 {
		t.Errorf("rate = %d before anything came, want 0", r)
	}
	var bytes int64
	now := start
	for range 100 { // a slow minute, then a fast one
		now = now.Add(600 * time.Millisecond)
		bytes += 600
		p.note(now, bytes)
	}
	if r := p.rate(now); r < 900 || r > 1100 {
		t.Errorf("rate = %d, want 1000", r)
	}
	for range 100 {
		now = now.Add(600 * time.Millisecond)
		bytes += 60_000
		p.note(now, bytes)
	}
	if r := p.rate(now); r < 90_000 || r > 110_000 {
		t.Errorf("rate = %d, want 100000", r)
	}
	if r := p.rate(now.Add(paceSpan)); r != 0 {
		t.Errorf("rate = %d after %v of silence, want 0", r, paceSpan)
	}
	if n := len(p.marks); n > 50 {
		t.Errorf("%d marks are kept", n)
	}
	// After an hour without a link it is what came since.
	now = now.Add(time.Hour)
	for range 5 {
		now = now.Add(time.Second)
		bytes += 10_000
		p.note(now, bytes)
	}
	if r := p.rate(now); r < 4_000 || r > 6_000 {
		t.Errorf("rate = %d after an outage and five seconds of 10000, want half of that", r)
	}
}
