package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// bufferSize is how many bytes a connection is read at a time.
const bufferSize = 32 << 10

// A worker does one job after the other, over one connection at a time.
type worker struct {
	*Downloader
	buf []byte
}

// work does jobs until ctx ends. The error is this registry's own.
func (d *Downloader) work(ctx context.Context) error {
	w := &worker{Downloader: d}
	for {
		j, err := d.next(ctx)
		if err != nil {
			return nil // the session is over
		}
		if err := w.do(ctx, j); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (w *worker) do(ctx context.Context, j *job) error {
	switch {
	case j.close != nil:
		return closeTransfer(j.close)
	case j.commit != nil:
		return w.commit(ctx, j.commit)
	case j.open != nil:
		return w.open(ctx, j.open)
	case len(j.fetch) == 1:
		return w.fetchSegment(ctx, j.fetch[0])
	}
	return w.fetchBatch(ctx, j.fetch)
}

// open opens the transfers of blobs, and fetches what can be fetched now.
func (w *worker) open(ctx context.Context, blobs []*Blob) error {
	var absent []*Blob // of which nothing is here
	for _, b := range blobs {
		t, here, err := w.openTransfer(ctx, b)
		switch {
		case here:
			w.opened(b, nil, committing)
			if err := w.commit(ctx, b); err != nil {
				return err
			}
		case err != nil:
			w.opened(b, nil, waiting)
			if err := w.finish(ctx, &segment{Blob: b, repository: b.from}, 0, err); err != nil {
				return err
			}
		case w.opened(b, t, fetching):
			absent = append(absent, b)
		}
	}
	if j := w.start(absent); len(j.fetch) > 0 {
		return w.do(ctx, j)
	}
	return nil
}

// openTransfer opens the transfer of a blob, unless that is here: it came
// another way meanwhile.
func (w *worker) openTransfer(ctx context.Context, b *Blob) (t *storage.Transfer, here bool, err error) {
	if here, err = w.storage.HasBlob(ctx, b.Digest); err == nil && !here {
		t, err = w.storage.Transfer(ctx, b.Digest, b.Size)
	}
	return t, here, Local(err)
}

// opened notes what was found of a blob, and reports whether all of it is to
// be fetched.
func (d *Downloader) opened(b *Blob, t *storage.Transfer, s state) (absent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b.transfer, b.state = t, s
	switch s {
	case waiting:
		d.queue.waiting += b.Size
	case committing:
		d.got(b, b.Size)
	case fetching:
		d.got(b, t.Have())
		absent = b.done == 0 && b.Size > 0 && !b.unwanted
		if !absent {
			d.place(b, time.Now())
		}
	}
	if !absent {
		d.looked(b)
	}
	return absent
}

// looked notes that it is known what of a blob is here, and asked for.
func (d *Downloader) looked(b *Blob) {
	delete(d.queue.opening, b)
	d.wake()
}

// start returns the job that fetches blobs of which nothing is here.
func (d *Downloader) start(blobs []*Blob) *job {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	j := &job{}
	for _, b := range blobs {
		switch {
		case b.unwanted:
			d.place(b, now)
		case len(blobs) == 1:
			j.fetch = append(j.fetch, d.claim(b, now))
		default:
			j.fetch = append(j.fetch, d.assign(b, storage.Range{End: b.Size}, now))
		}
		d.looked(b)
	}
	return j
}

// fetchSegment brings a segment from the source. Bytes that came are kept also
// with an error.
func (w *worker) fetchSegment(ctx context.Context, s *segment) error {
	fresh, err := w.fetch(ctx, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		w.log.Debug("range is fetched again", "digest", s.Digest, "bytes", fresh, "err", err)
	}
	return w.finish(ctx, s, fresh, err)
}

func (w *worker) fetch(ctx context.Context, s *segment) (fresh int64, err error) {
	ctx, watchdog := retry.Watch(ctx, w.stall)
	defer watchdog.Stop()
	defer func() { err = watchdog.Cause(err) }()
	in := &stream{worker: w, segment: s, watchdog: watchdog}

	asked := time.Now()
	body, start, err := w.src.Blob(ctx, s.Repositories[s.repository], s.Digest, s.Start, s.Len())
	if err != nil {
		return 0, err
	}
	defer body.Close()
	wait := time.Since(asked)
	defer func() { w.observe(in.received, wait, time.Since(asked)) }()
	in.body, in.at = body, start
	end := s.End
	if start > 0 {
		w.sendsRanges()
	}
	if start != s.Start {
		if start != 0 {
			return 0, fmt.Errorf("fetch %s: %w: it begins at byte %d, not %d", s.Digest, ErrGarbled, start, s.Start)
		}
		if !w.claimWhole(s) {
			return 0, nil
		}
		end = s.Size
	}
	err = in.until(ctx, end)
	if err == nil && end < s.Size && in.more() && w.claimWhole(s) {
		err = in.until(ctx, s.Size)
	}
	return in.fresh, err
}

// observe notes what a request brought; see [sizer.observe].
func (d *Downloader) observe(bytes int64, wait, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.sizer.observe(bytes, wait, took)
}

// sendsRanges notes that the source does.
func (d *Downloader) sendsRanges() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.rangeless = 0
}

// claimWhole gives the holder of a segment the whole blob, because the source
// ignores ranges. It returns false if another worker has it already.
func (d *Downloader) claimWhole(s *segment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.exclusive {
		d.queue.rangeless++
	}
	if s.exclusive && len(s.segments) > 1 || len(s.transfer.Missing()) == 0 {
		return false
	}
	s.exclusive = true
	d.place(s.Blob, time.Now())
	return true
}

// fetchBatch brings blobs in one answer. A blob that does not come so, or at
// which the answer breaks off, is fetched alone next.
func (w *worker) fetchBatch(ctx context.Context, segments []*segment) error {
	start := time.Now()
	fresh, at, err := w.receiveBatch(ctx, segments)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var sum int64
	for i, s := range segments {
		sum += fresh[i]
		var own error
		if i == at && errors.As(err, &LocalError{}) {
			own = err
		}
		if err := w.finish(ctx, s, fresh[i], own); err != nil {
			return err
		}
	}
	w.observe(sum, 0, time.Since(start))
	if err == nil || errors.As(err, &LocalError{}) {
		return nil
	}
	w.log.Debug("what is left of a batch is fetched again", "blobs", len(segments), "bytes", sum, "err", err)
	if retry.After(err) > 0 || classify(err) == cut {
		w.Failed(err)
	}
	return nil
}

// receiveBatch returns how many bytes came of each segment that were not here,
// and which segment was the last.
func (w *worker) receiveBatch(ctx context.Context, segments []*segment) (fresh []int64, at int, err error) {
	ctx, watchdog := retry.Watch(ctx, w.stall)
	defer watchdog.Stop()
	fresh = make([]int64, len(segments))
	want := make([]Ref, len(segments))
	for i, s := range segments {
		want[i] = Ref{s.Repositories[s.repository], s.Digest}
	}
	err = w.src.(Batcher).Batch(ctx, want, func(i int, size int64, content io.Reader) error {
		if at = i; content == nil {
			w.fetchAlone(segments[i])
			return nil
		}
		if size != segments[i].Size {
			return fmt.Errorf("blob %s: %w: it has %d bytes, not %d", want[i].Digest, ErrGarbled, size,
				segments[i].Size)
		}
		in := &stream{worker: w, segment: segments[i], watchdog: watchdog, body: content}
		err := in.until(ctx, size)
		fresh[i] = in.fresh
		return err
	})
	if err == nil {
		return fresh, at, nil
	}
	if classify(err) != cut {
		w.fetchAlone(segments...)
	}
	w.fetchAlone(segments[at])
	return fresh, at, watchdog.Cause(err)
}

// fetchAlone lets blobs come in no batch any more.
func (d *Downloader) fetchAlone(segments ...*segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range segments {
		s.Batch = false
	}
}

// commit makes a blob that is here visible in its repositories. Content that
// turns out wrong for the first time is fetched again from nothing.
func (w *worker) commit(ctx context.Context, b *Blob) error {
	err := w.commitBlob(ctx, b)
	if errors.Is(err, oci.ErrDigestInvalid) {
		if err := b.transfer.Reset(ctx); err != nil {
			return err
		}
		if w.corrupted(b) == tryAgain {
			w.log.Warn("content was wrong and is fetched again", "digest", b.Digest)
			return nil
		}
	} else if err != nil && !errors.Is(err, oci.ErrNoSpace) {
		return err
	}
	if b.transfer != nil {
		if err := closeTransfer(b.transfer); err != nil {
			return err
		}
	}
	w.committed(b, err == nil)
	w.report(ctx, Result{Blob: b, Err: err})
	return nil
}

func (w *worker) commitBlob(ctx context.Context, b *Blob) error {
	if b.transfer != nil {
		return b.transfer.Commit(ctx, b.Repositories...)
	}
	for _, repository := range b.Repositories {
		if err := w.storage.LinkBlob(ctx, repository, b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// corrupted notes that the content of a blob was wrong.
func (d *Downloader) corrupted(b *Blob) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got(b, -b.Size)
	b.corrupt++
	v := decide(corrupt, b.corrupt, 0)
	if v == tryAgain {
		b.state = fetching
		d.place(b, time.Now())
	} else {
		d.quarantine.add(content{b.Digest, b.Size}, b.Repositories[min(b.from, len(b.Repositories)-1)], time.Now())
	}
	return v
}

// committed notes the end of a blob.
func (d *Downloader) committed(b *Blob, here bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end(b)
	if here {
		delete(d.quarantine, content{b.Digest, b.Size})
	}
	d.wake()
}
