package download

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
)

// A Blob is to be fetched. The exported fields must not change once it is
// added.
type Blob struct {
	Digest       digest.Digest
	Size         int64
	Repositories []string // that get it; the source may have it in any of them
	Batch        bool     // the source can send it with others in one answer

	// The Downloader's lock guards what follows.
	rank      Rank
	seq       int // the order in which blobs were added
	index     int // in the heap; -1 is not in it
	state     state
	unwanted  bool // it failed, or nobody needs it: nothing more is asked for
	from      int  // the repository in which the source is asked for it
	transfer  *storage.Transfer
	segments  []*segment // that are being fetched
	exclusive bool       // one connection fetches all of it, because the source ignores ranges
	corrupt   int        // how often its content was wrong
	attempts  attempts
	deferral  deferral

	counted, done int64 // bytes, as [Progress] has them
	pace          pace  // of those that are done
}

// A Rank says how soon a blob is fetched: the lowest priority first and, within
// it, what is needed for the image that lacks the fewest bytes.
type Rank struct {
	Priority int
	Left     int64 // bytes that the image lacks
}

// Compare returns -1 if r comes before o, 1 if it comes after o, and else 0.
func (r Rank) Compare(o Rank) int {
	return cmp.Or(cmp.Compare(r.Priority, o.Priority), cmp.Compare(r.Left, o.Left))
}

// compare is negative if b is fetched before o.
func (b *Blob) compare(o *Blob) int {
	switch {
	case b.deferral.active == o.deferral.active:
		return cmp.Or(b.rank.Compare(o.rank), cmp.Compare(b.seq, o.seq))
	case b.deferral.active:
		return 1
	}
	return -1
}

// A state is how far a blob is.
type state int

const (
	waiting    state = iota // nobody looked at it
	opening                 // a worker looks what of it is here
	fetching                // its transfer is open
	complete                // all of it is here, and is to be committed
	committing              // a worker commits it
	over                    // it is here, or given up
)

// A segment is a range of a blob that one request fetches.
type segment struct {
	*Blob
	storage.Range
	repository int // in which the source is asked for it
}

// small reports whether the blob can come in a batch.
func (b *Blob) small(chunk int64) bool {
	return b.Batch && b.Size > 0 && b.Size <= min(chunk, minSegment)
}

// drop takes a segment off its blob.
func (s *segment) drop() {
	s.segments = slices.DeleteFunc(s.segments, func(o *segment) bool { return o == s })
	if len(s.segments) == 0 {
		s.exclusive = false
	}
}

// gaps returns what of the blob is neither here nor being fetched.
func (b *Blob) gaps() []storage.Range {
	gaps := b.transfer.Missing()
	for _, s := range b.segments {
		var rest []storage.Range
		for _, g := range gaps {
			if s.End <= g.Start || s.Start >= g.End {
				rest = append(rest, g)
				continue
			}
			if g.Start < s.Start {
				rest = append(rest, storage.Range{Start: g.Start, End: s.Start})
			}
			if s.End < g.End {
				rest = append(rest, storage.Range{Start: s.End, End: g.End})
			}
		}
		gaps = rest
	}
	return gaps
}
