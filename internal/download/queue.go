package download

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"ferry/internal/retry"
	"ferry/internal/storage"
)

// A queue holds the blobs of a session and decides, in pickJob, what is fetched next. The
// Downloader's lock guards it.
type queue struct {
	unfinished    map[*Blob]bool
	ready         blobHeap            // blobs that have something to fetch, by rank
	opening       map[*Blob]bool      // blobs in the state opening
	delayed       map[*Blob]bool      // blobs that wait for their next try
	toCommit      []*Blob             // complete blobs
	toClose       []*storage.Transfer // of dropped blobs
	rangeSizer    rangeSizer
	added         int   // number of blobs added
	pendingBytes  int64 // total size of the blobs in the state pending
	expectMore    bool  // more blobs may be added
	ignoredRanges int   // consecutive blobs for which the source ignored the range
}

// maxIgnoredRanges is the number of consecutive blobs that must come whole before the
// source counts as one without ranges: a single one may come from a cache on the way.
const maxIgnoredRanges = 2

func newQueue() queue {
	return queue{unfinished: map[*Blob]bool{}, opening: map[*Blob]bool{}, delayed: map[*Blob]bool{}, expectMore: true}
}

func (q *queue) add(b *Blob) {
	q.added++
	b.seq, b.heapIndex = q.added, -1
	q.unfinished[b] = true
	q.pendingBytes += b.Size
}

// reorder restores the order of the ready blobs after b's rank changed.
func (q *queue) reorder(b *Blob) {
	if b.heapIndex >= 0 && q.unfinished[b] {
		heap.Fix(&q.ready, b.heapIndex)
	}
}

// bytesMissing returns how many bytes of all blobs are not on disk.
func (q *queue) bytesMissing() (n int64) {
	for b := range q.unfinished {
		n += b.Size
		if b.transfer != nil {
			n -= b.transfer.Have()
		}
	}
	return n
}

// requeue puts a blob into the part of the queue in which it belongs. It must be called
// after every change to the blob. The lock is held.
func (d *Downloader) requeue(b *Blob, now time.Time) {
	q := &d.queue
	if b.heapIndex >= 0 {
		heap.Remove(&q.ready, b.heapIndex)
	}
	delete(q.delayed, b)
	switch {
	case b.dropped:
		d.dropBlob(b)
		return
	case b.state != pending && b.state != fetching, b.exclusive && len(b.segments) > 0:
		return
	case b.state == fetching && len(b.gaps()) == 0:
		if len(b.segments) > 0 {
			return
		}
		b.state = complete
		q.toCommit = append(q.toCommit, b)
	case now.Before(b.failures.notBefore):
		q.delayed[b] = true
	default:
		heap.Push(&q.ready, b)
	}
	d.wakeWorkers()
}

// dropBlob makes no further request for a blob. Its transfer is closed as soon as no
// worker uses it. The lock is held.
func (d *Downloader) dropBlob(b *Blob) {
	q := &d.queue
	b.dropped = true
	if b.heapIndex >= 0 {
		heap.Remove(&q.ready, b.heapIndex)
	}
	delete(q.delayed, b)
	if b.state == finished || b.state == opening || b.state == committing || len(b.segments) > 0 {
		return
	}
	q.toCommit = slices.DeleteFunc(q.toCommit, func(o *Blob) bool { return o == b })
	d.removeBlob(b)
	if b.transfer != nil {
		q.toClose = append(q.toClose, b.transfer)
		d.wakeWorkers()
	}
}

// removeBlob removes a finished blob. The lock is held.
func (d *Downloader) removeBlob(b *Blob) {
	if b.state == pending {
		d.queue.pendingBytes -= b.Size
	}
	b.state = finished
	delete(d.queue.unfinished, b)
}

// A job is the next thing for a worker to do. Exactly one field is set.
type job struct {
	open   []*Blob    // open their transfers, and start to fetch
	fetch  []*segment // one segment, or several whole blobs in one batch
	commit *Blob
	close  *storage.Transfer
}

// nextJob returns a worker's next job. It waits while there is none, or the link is down. The
// error is ctx's cause.
func (d *Downloader) nextJob(ctx context.Context) (*job, error) {
	for ctx.Err() == nil { // a job that is picked must be done
		d.mu.Lock()
		j, at := d.pickJob(time.Now())
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

// pickJob returns the most urgent job: first to close and to commit, which need no link,
// then to fetch from the ready blob with the best rank. If it returns no job, at is when
// there may be one; zero means that only a change can bring one. The lock is held.
func (d *Downloader) pickJob(now time.Time) (_ *job, at time.Time) {
	q := &d.queue
	if n := len(q.toClose); n > 0 {
		t := q.toClose[n-1]
		q.toClose = q.toClose[:n-1]
		return &job{close: t}, at
	}
	if len(q.toCommit) > 0 {
		b := q.toCommit[0]
		q.toCommit = q.toCommit[1:]
		b.state = committing
		return &job{commit: b}, at
	}
	if at := d.link.nextRequestAt(); now.Before(at) {
		return nil, at
	}
	for b := range q.delayed {
		if !now.Before(b.failures.notBefore) {
			delete(q.delayed, b)
			heap.Push(&q.ready, b)
		} else if at.IsZero() || b.failures.notBefore.Before(at) {
			at = b.failures.notBefore
		}
	}
	if len(q.ready) == 0 || d.isMoreUrgentOpening(q.ready[0]) {
		return nil, at
	}
	if b := q.ready[0]; b.state == fetching {
		return &job{fetch: []*segment{d.startNextGap(b, now)}}, at
	}
	return &job{open: d.pickBatch(q.ready[0])}, at
}

// isMoreUrgentOpening reports whether a worker is opening a blob that comes before b and is
// large enough for several workers. It is better to wait for that blob, which takes a
// moment, than to start a request for b, which takes long.
func (d *Downloader) isMoreUrgentOpening(b *Blob) bool {
	_, largest := d.queue.rangeSizer.bounds()
	for o := range d.queue.opening {
		if o.Size > largest && o.compare(b) < 0 {
			return true
		}
	}
	return false
}

// pickBatch takes b from the ready blobs and, if b is small, other small blobs that can
// share its response and save a round trip each. A batch is one connection's share of all
// small blobs, so that the other connections get some, too.
func (d *Downloader) pickBatch(b *Blob) []*Blob {
	q := &d.queue
	blobs := []*Blob{b}
	if b.isSmall(d.chunkSize) {
		var others []*Blob
		total := b.Size
		for _, o := range q.ready {
			if o != b && o.state == pending && o.isSmall(d.chunkSize) {
				others = append(others, o)
				total += o.Size
			}
		}
		slices.SortFunc(others, (*Blob).compare)
		_, largest := q.rangeSizer.bounds()
		left := min(total/int64(d.connections), largest) - b.Size
		for _, o := range others {
			if left -= o.Size; left < 0 || len(blobs) == MaxBatch {
				break
			}
			blobs = append(blobs, o)
		}
	}
	for _, b := range blobs {
		b.state = opening
		q.opening[b] = true
		q.pendingBytes -= b.Size
		heap.Remove(&q.ready, b.heapIndex)
	}
	return blobs
}

// A blobHeap is a heap of blobs, the most urgent first; see [heap.Interface].
type blobHeap []*Blob

func (h blobHeap) Len() int           { return len(h) }
func (h blobHeap) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h blobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *blobHeap) Push(x any) {
	b := x.(*Blob)
	b.heapIndex = len(*h)
	*h = append(*h, b)
}

func (h *blobHeap) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	b.heapIndex = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}
