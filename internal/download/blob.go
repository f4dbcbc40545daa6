package download

import (
	"cmp"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
)

// A Blob is content to fetch. Its exported fields must not change after
// [Downloader.Add].
type Blob struct {
	Digest       digest.Digest
	Size         int64
	Repositories []string // that will hold the blob; the source may have it in any of them
	Batch        bool     // the source can send the blob together with others

	// The Downloader's lock guards the fields below.
	rank        Rank
	seq         int // blobs are numbered in the order in which they are added
	heapIndex   int // in queue.ready; -1 if the blob is not in it
	state       state
	dropped     bool // failed or cancelled: no further request is made for it
	askedIn     int  // index in Repositories of the repository named in requests
	transfer    *storage.Transfer
	segments    []*segment // in flight
	exclusive   bool       // one worker fetches the whole blob, because the source ignores ranges
	corruptions int        // how often the content did not match the digest
	failures    failures
	deferral    deferral

	bytesExpected, bytesDone int64 // as counted in [Progress]
	rate                     rateMeter
}

// A Rank says how soon a blob is fetched: lowest priority value first and, within a
// priority, blobs of the image that lacks the fewest bytes first.
type Rank struct {
	Priority int
	Left     int64 // bytes that the image still lacks
}

// Compare returns -1 if r is fetched before o, 1 if after, and 0 if they are equal.
func (r Rank) Compare(o Rank) int {
	return cmp.Or(cmp.Compare(r.Priority, o.Priority), cmp.Compare(r.Left, o.Left))
}

// compare returns a negative number if b is fetched before o. Deferred blobs come last;
// equal ranks keep the order in which they were added.
func (b *Blob) compare(o *Blob) int {
	switch {
	case b.deferral.active == o.deferral.active:
		return cmp.Or(b.rank.Compare(o.rank), cmp.Compare(b.seq, o.seq))
	case b.deferral.active:
		return 1
	}
	return -1
}

// A state is how far a blob has come.
type state int

const (
	pending    state = iota // not started
	opening                 // a worker looks for bytes of it on disk
	fetching                // its transfer is open
	complete                // all bytes are on disk; it waits for its commit
	committing              // a worker verifies and commits it
	finished                // committed, failed or cancelled
)

// isSmall reports whether the blob can be part of a batch.
func (b *Blob) isSmall(chunkSize int64) bool {
	return b.Batch && b.Size > 0 && b.Size <= min(chunkSize, minSegment)
}

// isOnDisk reports whether the transfer of the blob has all bytes.
func (b *Blob) isOnDisk() bool { return b.state == fetching && len(b.transfer.Missing()) == 0 }
