package download

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"ferry/internal/retry"
	"ferry/internal/storage"
)

// A queue is the blobs of a session. The Downloader's lock guards it.
type queue struct {
	open      map[*Blob]bool // all that are not over
	ready     byRank         // those of which something can be asked for
	opening   map[*Blob]bool // those that a worker looks at
	delayed   map[*Blob]bool // those that wait for their next try
	complete  []*Blob
	closing   []*storage.Transfer // of blobs that were given up
	sizer     sizer
	added     int
	waiting   int64 // bytes of the blobs that nobody looked at
	more      bool  // more blobs may be added
	rangeless int   // blobs in a row that came whole although a range was asked for
}

// rangelessSources is how many blobs in a row a source has to send whole until
// it is asked for nothing else: one may come from a cache on the way.
const rangelessSources = 2

func newQueue() queue {
	return queue{open: map[*Blob]bool{}, opening: map[*Blob]bool{}, delayed: map[*Blob]bool{}, more: true}
}

func (q *queue) add(b *Blob) {
	q.added++
	b.seq, b.index = q.added, -1
	q.open[b] = true
	q.waiting += b.Size
}

// fix puts a blob whose rank changed in its place.
func (q *queue) fix(b *Blob) {
	if b.index >= 0 && q.open[b] {
		heap.Fix(&q.ready, b.index)
	}
}

// missing returns how many bytes are not here of all blobs.
func (q *queue) missing() (n int64) {
	for b := range q.open {
		n += b.Size
		if b.transfer != nil {
			n -= b.transfer.Have()
		}
	}
	return n
}

// place puts a blob where the next pick finds it, after anything about it
// changed.
func (d *Downloader) place(b *Blob, now time.Time) {
	q := &d.queue
	if b.index >= 0 {
		heap.Remove(&q.ready, b.index)
	}
	delete(q.delayed, b)
	switch {
	case b.unwanted:
		d.abandon(b)
		return
	case b.state != waiting && b.state != fetching, b.exclusive && len(b.segments) > 0:
		return
	case b.state == fetching && len(b.gaps()) == 0:
		if len(b.segments) > 0 {
			return
		}
		b.state = complete
		q.complete = append(q.complete, b)
	case now.Before(b.attempts.next):
		q.delayed[b] = true
	default:
		heap.Push(&q.ready, b)
	}
	d.wake()
}

// abandon lets nothing more be asked for of a blob. Once nobody is at work on
// it, its transfer is closed.
func (d *Downloader) abandon(b *Blob) {
	q := &d.queue
	b.unwanted = true
	if b.index >= 0 {
		heap.Remove(&q.ready, b.index)
	}
	delete(q.delayed, b)
	if b.state == over || b.state == opening || b.state == committing || len(b.segments) > 0 {
		return
	}
	q.complete = slices.DeleteFunc(q.complete, func(o *Blob) bool { return o == b })
	d.end(b)
	if b.transfer != nil {
		q.closing = append(q.closing, b.transfer)
		d.wake()
	}
}

// end forgets a blob that is over.
func (d *Downloader) end(b *Blob) {
	if b.state == waiting {
		d.queue.waiting -= b.Size
	}
	b.state = over
	delete(d.queue.open, b)
}

// A job is what a worker does next; one of the fields is set.
type job struct {
	open   []*Blob    // look what of them is here
	fetch  []*segment // one, or several whole blobs that come in one answer
	commit *Blob
	close  *storage.Transfer
}

// next returns what to do next, and waits while there is nothing, or the link
// is down. The error is ctx's cause.
func (d *Downloader) next(ctx context.Context) (*job, error) {
	for ctx.Err() == nil { // a job that is picked must be done
		d.mu.Lock()
		j, at := d.pick(time.Now())
		wake := d.changed
		d.mu.Unlock()
		if j != nil {
			return j, nil
		}
		pause := time.Hour
		if !at.IsZero() {
			pause = time.Until(at)
		}
		if err := retry.Sleep(ctx, max(pause, 1), wake); err != nil {
			return nil, err
		}
	}
	return nil, context.Cause(ctx)
}

// pick is next without waiting; it returns when it is time to look again, if
// that is known.
func (d *Downloader) pick(now time.Time) (_ *job, at time.Time) {
	q := &d.queue
	if n := len(q.closing); n > 0 {
		t := q.closing[n-1]
		q.closing = q.closing[:n-1]
		return &job{close: t}, at
	}
	if len(q.complete) > 0 {
		b := q.complete[0]
		q.complete = q.complete[1:]
		b.state = committing
		return &job{commit: b}, at
	}
	if at := d.link.heldUntil(); now.Before(at) {
		return nil, at
	}
	for b := range q.delayed {
		if !now.Before(b.attempts.next) {
			delete(q.delayed, b)
			heap.Push(&q.ready, b)
		} else if at.IsZero() || b.attempts.next.Before(at) {
			at = b.attempts.next
		}
	}
	if len(q.ready) == 0 || d.overtaken(q.ready[0]) {
		return nil, at
	}
	if b := q.ready[0]; b.state == fetching {
		return &job{fetch: []*segment{d.claim(b, now)}}, at
	}
	return &job{open: d.batch(q.ready[0])}, at
}

// overtaken reports whether a blob that comes before b, and keeps several
// workers busy, is just being opened: that takes a moment, and b's request long.
func (d *Downloader) overtaken(b *Blob) bool {
	_, most := d.queue.sizer.bounds()
	for o := range d.queue.opening {
		if o.Size > most && o.compare(b) < 0 {
			return true
		}
	}
	return false
}

// batch returns b, and other blobs that can come in the same answer: each is
// small, and would cost a round trip of its own. They are the share of one
// connection of all that wait, so that the others have some, too.
func (d *Downloader) batch(b *Blob) []*Blob {
	q := &d.queue
	blobs := []*Blob{b}
	if b.small(d.chunk) {
		var others []*Blob
		total := b.Size
		for _, o := range q.ready {
			if o != b && o.state == waiting && o.small(d.chunk) {
				others = append(others, o)
				total += o.Size
			}
		}
		slices.SortFunc(others, (*Blob).compare)
		_, most := q.sizer.bounds()
		room := min(total/int64(d.connections), most) - b.Size
		for _, o := range others {
			if room -= o.Size; room < 0 || len(blobs) == MaxBatch {
				break
			}
			blobs = append(blobs, o)
		}
	}
	for _, b := range blobs {
		b.state = opening
		q.opening[b] = true
		q.waiting -= b.Size
		heap.Remove(&q.ready, b.index)
	}
	return blobs
}

// claim returns the next range of a blob that has a gap.
func (d *Downloader) claim(b *Blob, now time.Time) *segment {
	q := &d.queue
	gaps := b.gaps()
	b.exclusive = b.exclusive || q.rangeless >= rangelessSources
	r := storage.Range{Start: gaps[0].Start, End: b.Size}
	if !b.exclusive {
		s := rangeSizing{sizer: q.sizer, gap: gaps[0].Len(), chunk: d.chunk, connections: d.connections}
		for _, g := range gaps {
			s.left += g.Len()
		}
		if !q.more {
			s.rest = q.missing()
		}
		r.End = r.Start + rangeSize(s)
	}
	return d.assign(b, r, now)
}

// assign notes that a range of a blob is being fetched.
func (d *Downloader) assign(b *Blob, r storage.Range, now time.Time) *segment {
	s := &segment{b, r, b.from}
	b.segments = append(b.segments, s)
	d.place(b, now)
	return s
}

// byRank is a heap of blobs; see [heap.Interface].
type byRank []*Blob

func (h byRank) Len() int           { return len(h) }
func (h byRank) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h byRank) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byRank) Push(x any) {
	b := x.(*Blob)
	b.index = len(*h)
	*h = append(*h, b)
}

func (h *byRank) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	b.index = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}
