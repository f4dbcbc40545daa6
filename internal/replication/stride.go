package replication

import (
	"sync"
	"time"
)

// Limits on what one request asks for, beside [segmentChunks].
const (
	// leastBusy is for how long it keeps its connection busy where its answer
	// soon begins: many round trips, and not much to wait for at the end.
	leastBusy = 20 * time.Second
	// mostBusy is for how long at most: what is urgent waits for it.
	mostBusy = 40 * time.Second
	// waits is how many times as long as the wait for its answer, between
	// these, so that little of a connection's time is spent on waiting.
	waits = 50
	// leastSegment is how many bytes it may be, however long they take.
	leastSegment = 128 << 10
	// firstSegment is how many bytes it is at most while nobody knows how
	// much comes through a connection.
	firstSegment = 256 << 10
	// lastSegment is how many bytes it is at least where nothing is left to
	// fetch but the rest of what others fetch, and leastWaits how many times
	// as long as the wait for its answer it takes then.
	lastSegment = 64 << 10
	leastWaits  = 2
)

// An extent is how many bytes the next request should ask for: at most, and
// where little is left, at least.
type extent struct{ least, most int64 }

// A stride is how much a connection is asked for at a time, found from what
// the last ones brought. The zero value is ready.
type stride struct {
	mu   sync.Mutex
	pace float64       // of the connection that brought something last, in bytes a second
	wait time.Duration // for the last answer to begin
}

// brought notes what a request brought, how long it took until its answer
// began, 0 where that is not known, and until it ended.
func (s *stride) brought(bytes int64, wait, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes <= 0 || took <= 0 {
		return
	}
	s.pace = float64(bytes) / took.Seconds()
	if wait > 0 {
		s.wait = wait
	}
}

// extent is how many bytes the next request should ask for.
func (s *stride) extent() extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pace == 0 {
		return extent{leastSegment, firstSegment}
	}
	within := func(d time.Duration) int64 { return int64(s.pace * d.Seconds()) }
	return extent{
		least: max(within(leastWaits*s.wait), lastSegment),
		most:  max(within(min(max(waits*s.wait, leastBusy), mostBusy)), leastSegment),
	}
}
