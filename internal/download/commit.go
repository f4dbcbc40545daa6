package download

import (
	"context"
	"errors"
	"time"

	"ferry/internal/oci"
)

// commit verifies a complete blob and makes it visible in its repositories. If the content
// does not match the digest, it is discarded: the first time, the blob is fetched again
// from its start; the second time, it fails and counts for the quarantine.
func (w *worker) commit(ctx context.Context, b *Blob) error {
	err := w.commitBlob(ctx, b)
	wrong := errors.Is(err, oci.ErrDigestInvalid)
	if wrong {
		if resetErr := b.transfer.Reset(ctx); resetErr != nil {
			wrong, err = false, resetErr
		}
	}
	switch {
	case wrong && w.recordWrongContent(b) == retryBlob:
		w.log.Warn("content was wrong and is fetched again", "digest", b.Digest)
		return nil
	case !wrong && err != nil:
		if err = w.local(ctx, err); classify(err) == localFailure {
			return err
		}
	}
	if b.transfer != nil {
		if err := w.closeTransfer(b.transfer); err != nil {
			return err
		}
	}
	w.recordCommit(b, err == nil)
	w.sendResult(ctx, Result{Blob: b, Err: err})
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

// recordWrongContent records that a blob does not match its digest, and returns whether to
// fetch it again.
func (d *Downloader) recordWrongContent(b *Blob) consequence {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countDone(b, -b.Size)
	b.corruptions++
	c := decide(wrongContent, b.corruptions, 0)
	if c == retryBlob {
		b.state = fetching
		d.requeue(b, time.Now())
	} else {
		repository := b.Repositories[min(b.askedIn, len(b.Repositories)-1)]
		d.quarantine.add(contentKey{b.Digest, b.Size}, repository, time.Now())
	}
	return c
}

// recordCommit removes a blob from the queue. If it was committed, it leaves the
// quarantine, too.
func (d *Downloader) recordCommit(b *Blob, committed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removeBlob(b)
	if committed {
		delete(d.quarantine, contentKey{b.Digest, b.Size})
	}
	d.wakeWorkers()
}
