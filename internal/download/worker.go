package download

import (
	"context"
	"fmt"
	"io"
	"time"

	"ferry/internal/retry"
)

// bufferSize is how many bytes are read from a connection at a time.
const bufferSize = 32 << 10

// A worker runs one job after the other. It uses one connection at a time.
type worker struct {
	*Downloader
	buf []byte
}

// runWorker runs jobs until ctx ends. An error means that this registry's database, or its
// whole disk, failed.
func (d *Downloader) runWorker(ctx context.Context) error {
	w := &worker{Downloader: d}
	for {
		j, err := d.nextJob(ctx)
		if err != nil {
			return nil // the session ended
		}
		if err := w.run(ctx, j); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (w *worker) run(ctx context.Context, j *job) error {
	switch {
	case j.close != nil:
		return w.closeTransfer(j.close)
	case j.commit != nil:
		return w.commit(ctx, j.commit)
	case j.open != nil:
		return w.openTransfers(ctx, j.open)
	case len(j.fetch) == 1:
		return w.fetchSegment(ctx, j.fetch[0])
	}
	return w.fetchBatch(ctx, j.fetch)
}

// fetchSegment fetches a segment. Received bytes are kept even if the request fails.
func (w *worker) fetchSegment(ctx context.Context, s *segment) error {
	newBytes, err := w.fetch(ctx, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		w.log.Debug("range is fetched again", "digest", s.Digest, "bytes", newBytes, "err", err)
	}
	return w.finishSegment(ctx, s, newBytes, err)
}

// fetch makes one request for a segment, and returns how many of the received bytes were
// not on disk before. If the source ignores the range, it fetches the whole blob, or
// nothing if another worker does so already.
func (w *worker) fetch(ctx context.Context, s *segment) (newBytes int64, err error) {
	ctx, watchdog := retry.Watch(ctx, w.stallTimeout)
	defer watchdog.Stop()
	defer func() { err = watchdog.Cause(err) }()
	in := &stream{worker: w, segment: s, watchdog: watchdog}

	asked := time.Now()
	body, start, err := w.src.Blob(ctx, s.Repositories[s.askedIn], s.Digest, s.Start, s.Len())
	if err != nil {
		return 0, err
	}
	defer body.Close()
	wait := time.Since(asked)
	defer func() { w.observeRequest(in.received, wait, time.Since(asked)) }()
	in.body, in.offset = body, start
	end := s.End
	if start > 0 {
		w.recordRangeSupport()
	}
	if start != s.Start {
		if start != 0 {
			return 0, fmt.Errorf("fetch %s: %w: it begins at byte %d, not %d", s.Digest, ErrGarbled, start, s.Start)
		}
		if !w.takeWholeBlob(s) {
			return 0, nil
		}
		end = s.Size
	}
	err = in.copyUntil(ctx, end)
	if err == nil && end < s.Size && in.sendsMore() && w.takeWholeBlob(s) {
		err = in.copyUntil(ctx, s.Size)
	}
	return in.newBytes, err
}

// observeRequest records how large and how fast a response was; see [rangeSizer.observe].
func (d *Downloader) observeRequest(bytes int64, wait, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.rangeSizer.observe(bytes, wait, took)
}

// recordRangeSupport records that the source sent a range.
func (d *Downloader) recordRangeSupport() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.ignoredRanges = 0
}

// takeWholeBlob gives the worker of a segment the whole blob, because the source ignores
// ranges. It returns false if another worker has the blob already, or all of it is on disk.
func (d *Downloader) takeWholeBlob(s *segment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.exclusive {
		d.queue.ignoredRanges++
	}
	if s.exclusive && len(s.segments) > 1 || len(s.transfer.Missing()) == 0 {
		return false
	}
	s.exclusive = true
	d.requeue(s.Blob, time.Now())
	return true
}

// fetchBatch fetches whole blobs in one response. A blob that is missing from the response,
// or at which it breaks off, is next fetched by a request of its own.
func (w *worker) fetchBatch(ctx context.Context, segments []*segment) error {
	start := time.Now()
	newBytes, last, err := w.receiveBatch(ctx, segments)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var sum int64
	for i, s := range segments {
		sum += newBytes[i]
		var localErr error
		if i == last && isLocal(err) {
			localErr = err
		}
		if err := w.finishSegment(ctx, s, newBytes[i], localErr); err != nil {
			return err
		}
	}
	w.observeRequest(sum, 0, time.Since(start))
	if err == nil || isLocal(err) {
		return nil
	}
	w.log.Debug("rest of a batch is fetched again", "blobs", len(segments), "bytes", sum, "err", err)
	if retry.After(err) > 0 || classify(err) == linkFailed {
		w.RequestFailed(err)
	}
	return nil
}

// receiveBatch makes one request for a batch. It returns how many received bytes of each
// segment were not on disk before, and the index of the last segment in the response.
func (w *worker) receiveBatch(
	ctx context.Context, segments []*segment,
) (newBytes []int64, last int, err error) {
	ctx, watchdog := retry.Watch(ctx, w.stallTimeout)
	defer watchdog.Stop()
	newBytes = make([]int64, len(segments))
	want := make([]Ref, len(segments))
	for i, s := range segments {
		want[i] = Ref{s.Repositories[s.askedIn], s.Digest}
	}
	err = w.src.(Batcher).Batch(ctx, want, func(i int, size int64, content io.Reader) error {
		s := segments[i]
		if last = i; content == nil {
			w.excludeFromBatches(s)
			return nil
		}
		if size != s.Size {
			return fmt.Errorf("blob %s: %w: it has %d bytes, not %d", s.Digest, ErrGarbled, size, s.Size)
		}
		in := &stream{worker: w, segment: s, watchdog: watchdog, body: content}
		err := in.copyUntil(ctx, size)
		newBytes[i] = in.newBytes
		return err
	})
	if err == nil {
		return newBytes, last, nil
	}
	if classify(err) != linkFailed {
		w.excludeFromBatches(segments...)
	}
	w.excludeFromBatches(segments[last])
	return newBytes, last, watchdog.Cause(err)
}

// excludeFromBatches makes blobs be fetched by requests of their own.
func (d *Downloader) excludeFromBatches(segments ...*segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range segments {
		s.Batch = false
	}
}
