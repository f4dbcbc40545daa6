package replication

import (
	"testing"
	"time"
)

func TestARequestIsAsLongAsTheWaitForItsAnswerIsWorth(t *testing.T) {
	var s stride
	check := func(when string, want int64) {
		t.Helper()
		if n := s.most(); n != want {
			t.Errorf("%s: asks for %d bytes, want %d", when, n, want)
		}
	}
	check("at first", firstSegment)
	s.brought(0, time.Second, time.Minute)
	check("after a request in vain", firstSegment)
	s.brought(1e6, 20*time.Millisecond, time.Second)
	check("over a near link", 20e6)
	s.brought(300e3, 600*time.Millisecond, 10*time.Second)
	check("over a satellite", 900e3)
	s.brought(300e3, 0, 5*time.Second)
	check("after a batch, which says nothing of the wait", 1800e3)
	s.brought(300e3, time.Minute, 10*time.Second)
	check("over a link that lets wait for minutes", 1200e3)
	s.brought(100, time.Second, 10*time.Second)
	check("over a link that brings next to nothing", leastSegment)
}
