package download

import (
	"slices"
	"time"

	"ferry/internal/storage"
)

// A segment is a range of a blob that one request fetches.
type segment struct {
	*Blob
	storage.Range
	askedIn int // index of the repository named in the request
}

// remove removes a segment from its blob.
func (s *segment) remove() {
	s.segments = slices.DeleteFunc(s.segments, func(o *segment) bool { return o == s })
	if len(s.segments) == 0 {
		s.exclusive = false
	}
}

// gaps returns the ranges of the blob that are neither on disk nor in flight.
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

// startNextGap starts on the first gap of a blob and returns the range to fetch. The blob
// must have a gap.
func (d *Downloader) startNextGap(b *Blob, now time.Time) *segment {
	q := &d.queue
	gaps := b.gaps()
	b.exclusive = b.exclusive || q.ignoredRanges >= maxIgnoredRanges
	r := storage.Range{Start: gaps[0].Start, End: b.Size}
	if !b.exclusive {
		in := rangeInputs{rangeSizer: q.rangeSizer, gap: gaps[0].Len(), chunk: d.chunkSize, connections: d.connections}
		for _, g := range gaps {
			in.blobLeft += g.Len()
		}
		if !q.expectMore {
			in.sessionLeft = q.bytesMissing()
		}
		r.End = r.Start + rangeSize(in)
	}
	return d.startSegment(b, r, now)
}

// startSegment marks a range of a blob as in flight.
func (d *Downloader) startSegment(b *Blob, r storage.Range, now time.Time) *segment {
	s := &segment{b, r, b.askedIn}
	b.segments = append(b.segments, s)
	d.requeue(b, now)
	return s
}
