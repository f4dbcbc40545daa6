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
	// leastSegment is how many bytes it is at least, where that is too long,
	// or where nothing is left to fetch but the rest of one layer.
	leastSegment = 128 << 10
	// firstSegment is how many bytes it is at most while nobody knows how
	// much comes through a connection.
	firstSegment = 256 << 10
)

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

// most is how many bytes the next request should ask for at most.
func (s *stride) most() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pace == 0 {
		return firstSegment
	}
	busy := min(max(waits*s.wait, leastBusy), mostBusy)
	return max(int64(s.pace*busy.Seconds()), leastSegment)
}
