package download

import "time"

// Limits on the size of one request, beside the chunk size.
const (
	// maxChunks is the largest request in chunks: large enough to make its round trip
	// cheap, small enough to share the end of a blob fairly.
	maxChunks = 8
	// A request should keep its connection busy for waitFactor times as long as it waits
	// for the response to begin, so that little time is lost by waiting; but for at least
	// minRequestTime, and for at most maxRequestTime, because urgent blobs wait for it.
	waitFactor     = 50
	minRequestTime = 20 * time.Second
	maxRequestTime = 40 * time.Second
	// minSegment is a size that a request may always have, however long it takes.
	minSegment = 128 << 10
	// firstSegment is the largest request while the rate of a connection is unknown.
	firstSegment = 256 << 10
	// When only ranges are left that other workers fetch already, a request should take
	// tailWaitFactor times as long as the wait for its response, and ask for at least
	// minTail.
	minTail        = 64 << 10
	tailWaitFactor = 2
)

// A rangeSizer derives the size of requests from the last request. The zero value is ready.
type rangeSizer struct {
	rate float64       // of one connection, in bytes per second; 0 is unknown
	wait time.Duration // until the response began
}

// observe records the size of a response, the wait until it began, which is 0 if unknown,
// and the time until it ended.
func (s *rangeSizer) observe(bytes int64, wait, took time.Duration) {
	if bytes <= 0 || took <= 0 {
		return
	}
	s.rate = float64(bytes) / took.Seconds()
	if wait > 0 {
		s.wait = wait
	}
}

// bounds returns the smallest request at the end of a session, and the largest request.
func (s rangeSizer) bounds() (smallest, largest int64) {
	if s.rate == 0 {
		return minSegment, firstSegment
	}
	within := func(d time.Duration) int64 { return int64(s.rate * d.Seconds()) }
	smallest = max(within(tailWaitFactor*s.wait), minTail)
	largest = max(within(min(max(waitFactor*s.wait, minRequestTime), maxRequestTime)), minSegment)
	return smallest, largest
}

// rangeInputs are the inputs of [rangeSize].
type rangeInputs struct {
	rangeSizer
	gap         int64 // length of the gap to fetch from
	blobLeft    int64 // bytes of the blob that are neither on disk nor in flight
	sessionLeft int64 // bytes of all blobs that are not on disk; 0 if more blobs may be added
	chunk       int64
	connections int
}

// rangeSize returns how many bytes of a gap to ask for. While more blobs may be added, a
// worker that finishes early continues with those. At the end of a session, each request
// takes most of a fair share of the rest, so that all workers finish at about the same
// time. A remainder that is too small for a request of its own is included.
func rangeSize(in rangeInputs) int64 {
	smallestAtEnd, largest := in.bounds()
	smallest, minRemainder, share := in.chunk, min(in.chunk, minSegment), in.blobLeft/int64(2*in.connections)
	if in.sessionLeft > 0 {
		smallest = min(in.chunk, smallestAtEnd)
		minRemainder, share = smallest/2, in.sessionLeft*4/int64(5*in.connections)
	}
	length := min(max(share, smallest), maxChunks*in.chunk, largest)
	if in.gap < length+minRemainder {
		return in.gap
	}
	return length
}
