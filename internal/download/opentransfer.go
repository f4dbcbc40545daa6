package download

import (
	"context"
	"time"

	"ferry/internal/storage"
)

// openTransfers opens the transfers of blobs. Each continues with the bytes that earlier sessions
// left on disk: only the gaps are fetched. Blobs of which nothing is on disk are fetched
// at once, the others by further jobs.
func (w *worker) openTransfers(ctx context.Context, blobs []*Blob) error {
	var empty []*Blob // blobs of which nothing is on disk
	for _, b := range blobs {
		t, stored, err := w.openTransfer(ctx, b)
		switch {
		case stored:
			w.recordOpened(b, nil, committing)
			if err := w.commit(ctx, b); err != nil {
				return err
			}
		case err != nil:
			w.recordOpened(b, nil, pending)
			if err := w.finishSegment(ctx, &segment{Blob: b, askedIn: b.askedIn}, 0, err); err != nil {
				return err
			}
		case w.recordOpened(b, t, fetching):
			empty = append(empty, b)
		}
	}
	if j := w.startFetching(empty); len(j.fetch) > 0 {
		return w.run(ctx, j)
	}
	return nil
}

// openTransfer opens the transfer of a blob. If the blob is already stored, for example
// because a client pushed it meanwhile, it reports that instead.
func (w *worker) openTransfer(ctx context.Context, b *Blob) (t *storage.Transfer, stored bool, err error) {
	if stored, err = w.storage.HasBlob(ctx, b.Digest); err == nil && !stored {
		t, err = w.storage.Transfer(ctx, b.Digest, b.Size)
	}
	return t, stored, w.local(ctx, err)
}

// recordOpened records the transfer and the new state of a blob. It reports whether nothing
// of the blob is on disk; then the caller must call [Downloader.startFetching].
func (d *Downloader) recordOpened(b *Blob, t *storage.Transfer, s state) (empty bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b.transfer, b.state = t, s
	switch s {
	case pending:
		d.queue.pendingBytes += b.Size
	case committing:
		d.countDone(b, b.Size)
	case fetching:
		d.countDone(b, t.Have())
		empty = b.bytesDone == 0 && b.Size > 0 && !b.dropped
		if !empty {
			d.requeue(b, time.Now())
		}
	}
	if !empty {
		d.finishOpening(b)
	}
	return empty
}

// finishOpening ends the state opening of a blob. The lock is held.
func (d *Downloader) finishOpening(b *Blob) {
	delete(d.queue.opening, b)
	d.wakeWorkers()
}

// startFetching returns the job that fetches blobs of which nothing is on disk: a segment
// of the only one, or all of several in one batch.
func (d *Downloader) startFetching(blobs []*Blob) *job {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	j := &job{}
	for _, b := range blobs {
		switch {
		case b.dropped:
			d.requeue(b, now)
		case len(blobs) == 1:
			j.fetch = append(j.fetch, d.startNextGap(b, now))
		default:
			j.fetch = append(j.fetch, d.startSegment(b, storage.Range{End: b.Size}, now))
		}
		d.finishOpening(b)
	}
	return j
}
