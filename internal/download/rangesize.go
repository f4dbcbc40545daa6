package download

import "time"

// Limits on what one request asks for, beside the chunk size.
const (
	// segmentChunks is how many chunks it is at most: enough to make little of
	// its round trip, few enough to share a blob's end fairly.
	segmentChunks = 8
	// minBusy is for how long it keeps its connection busy if its answer
	// begins soon: many round trips, and not much to wait for at the end.
	minBusy = 20 * time.Second
	// maxBusy is for how long at most: what is urgent waits for it.
	maxBusy = 40 * time.Second
	// waits is how many times as long as the wait for its answer it takes,
	// between these, so that little of a connection's time is spent waiting.
	waits = 50
	// minSegment is how many bytes it may be, however long they take.
	minSegment = 128 << 10
	// firstSegment is how many bytes it is at most while nobody knows how much
	// comes through a connection.
	firstSegment = 256 << 10
	// minTail is how many bytes it is at least if nothing is left to fetch but
	// the rest of what others fetch, and tailWaits how many times as long as
	// the wait for its answer it takes then.
	minTail   = 64 << 10
	tailWaits = 2
)

// A sizer finds how much to ask for at a time from what the last request
// brought. The zero value is ready.
type sizer struct {
	rate float64       // of the connection that brought something last, in bytes a second
	wait time.Duration // for the last answer to begin
}

// observe notes what a request brought, how long it took until its answer
// began, 0 if that is not known, and until it ended.
func (s *sizer) observe(bytes int64, wait, took time.Duration) {
	if bytes <= 0 || took <= 0 {
		return
	}
	s.rate = float64(bytes) / took.Seconds()
	if wait > 0 {
		s.wait = wait
	}
}

// bounds returns how many bytes a request may ask for: at most and, if little
// is left, at least.
func (s sizer) bounds() (least, most int64) {
	if s.rate == 0 {
		return minSegment, firstSegment
	}
	within := func(d time.Duration) int64 { return int64(s.rate * d.Seconds()) }
	least = max(within(tailWaits*s.wait), minTail)
	most = max(within(min(max(waits*s.wait, minBusy), maxBusy)), minSegment)
	return least, most
}

// rangeSizing is what the length of a request depends on.
type rangeSizing struct {
	sizer
	gap         int64 // the range from which it is cut
	left        int64 // of the blob, neither here nor being fetched
	rest        int64 // of all blobs, what is being fetched included; 0 if more may be added
	chunk       int64
	connections int
}

// rangeSize returns how many bytes to cut from a gap. While more blobs may
// come, a worker that is done goes on with those. Otherwise each takes most of
// a fair share of what is left, so that all are done at about the same time.
func rangeSize(s rangeSizing) int64 {
	fromRate, most := s.bounds()
	least, crumbs, share := s.chunk, min(s.chunk, minSegment), s.left/int64(2*s.connections)
	if s.rest > 0 {
		least = min(s.chunk, fromRate)
		crumbs, share = least/2, s.rest*4/int64(5*s.connections)
	}
	length := min(max(share, least), segmentChunks*s.chunk, most)
	if s.gap < length+crumbs {
		return s.gap
	}
	return length
}
