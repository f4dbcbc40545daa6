package download

import (
	"context"
	"errors"
	"time"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// ErrGarbled says that the source sent something invalid, or content that does not match
// its digest. Either the link damaged it, or the source's copy is wrong.
var ErrGarbled = errors.New("the source sent something other than the requested content")

// A LocalError is a failure of this registry's database or of its whole disk. No source can
// help, and no blob can be stored.
type LocalError struct{ error }

// Local marks an error as a [LocalError]; nil stays nil.
func Local(err error) error {
	if err == nil {
		return nil
	}
	return LocalError{err}
}

// Unwrap returns the marked error.
func (e LocalError) Unwrap() error { return e.error }

// A fileError is a failure of the file of one blob on this registry's disk, while the disk
// takes other files. A later session tries the blob again.
type fileError struct{ error }

// Unwrap returns the reason.
func (e fileError) Unwrap() error { return e.error }

// local marks an error of storage as a [LocalError] or, if the fault is one file's, as a
// fileError; nil stays nil.
func (d *Downloader) local(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, oci.ErrBlobUnknown): // the blob was found damaged meanwhile
		return fileError{err}
	case err != nil && !errors.Is(err, oci.ErrNoSpace) && d.storage.IsFileFailure(ctx, err):
		return fileError{err}
	}
	return Local(err)
}

// isLocal reports whether the source is not at fault for an error.
func isLocal(err error) bool { return errors.As(err, &LocalError{}) || errors.As(err, &fileError{}) }

// A failureKind is the kind of error with which a try to fetch a blob failed.
type failureKind int

const (
	localFailure failureKind = iota // this registry's database, or its whole disk, failed
	fileFailure                     // the file of this blob failed
	notStorable                     // the disk is full, or the source sends more bytes than the blob has
	transferBusy                    // another downloader has the transfer open
	refused                         // the source refuses permanently
	unauthorized                    // the source refuses the credentials
	wrongContent                    // the content does not match the digest
	badAnswer                       // the source answered, but not with the content
	linkFailed                      // no answer, or an incomplete one
)

func classify(err error) failureKind {
	switch {
	case errors.Is(err, oci.ErrNoSpace), errors.Is(err, oci.ErrSizeInvalid):
		return notStorable
	case errors.Is(err, storage.ErrBusy):
		return transferBusy
	case errors.As(err, &fileError{}):
		return fileFailure
	case errors.As(err, &LocalError{}):
		return localFailure
	case retry.Unauthorized(err):
		return unauthorized
	case retry.Permanent(err):
		return refused
	case retry.Answered(err), errors.Is(err, ErrGarbled):
		return badAnswer
	}
	return linkFailed
}

// A consequence is how the downloader continues after a failure.
type consequence int

const (
	retryBlob  consequence = iota
	deferBlob              // fetch all other blobs first; see [deferral]
	failBlob               // give the blob up
	endSession             // nothing can be fetched
)

// policy says when the consequence of a kind of failure applies: after this number of tries in
// a row, and at least this time after the first of them. Until then, the blob is retried.
// Tries are counted for the blob or, if it is unauthorized, for the link.
var policy = map[failureKind]struct {
	tries       int
	time        time.Duration
	consequence consequence
}{
	localFailure: {consequence: endSession},
	fileFailure:  {consequence: failBlob},
	notStorable:  {consequence: failBlob},
	refused:      {consequence: failBlob}, // after the source was asked for it in every repository
	unauthorized: {time: 5 * time.Second, consequence: failBlob},
	wrongContent: {tries: 2, consequence: failBlob},
	transferBusy: {tries: 3, time: time.Minute, consequence: deferBlob},
	badAnswer:    {tries: 3, time: time.Minute, consequence: deferBlob},
	linkFailed:   {tries: 3, time: time.Minute, consequence: deferBlob},
}

// decide returns the consequence of a number of failed tries in a row. since is the time
// since the first of them.
func decide(kind failureKind, tries int, since time.Duration) consequence {
	if p := policy[kind]; tries >= p.tries && since >= p.time {
		return p.consequence
	}
	return retryBlob
}

// failures count consecutive tries without progress. The zero value is none.
type failures struct {
	first     time.Time
	count     int
	successes int64     // successful requests over the link, when the last failure was counted
	notBefore time.Time // the time of the next try
	backoff   *retry.Backoff
}

// addAndDelay counts a failed try. It delays the blob's next try if the link is up, because then
// the fault is probably the blob's: linkIsUp says that the source answered, and a growing
// number of successes says that other requests succeed. The delay is at least retryAfter.
func (f *failures) addAndDelay(now time.Time, linkIsUp bool, successes int64, retryAfter time.Duration) {
	if f.first.IsZero() {
		*f = failures{first: now, successes: successes, backoff: retry.NewBackoff(firstPause, maxPause, pauseFactor)}
	}
	f.count++
	if (linkIsUp || successes > f.successes) && !now.Before(f.notBefore) {
		f.notBefore = now.Add(max(f.backoff.NextBackOff(), retryAfter))
	}
	f.successes = successes
}

// A deferral makes a blob wait behind all others. If the blob keeps failing afterwards
// while other requests succeed, the fault is not the link's, and the blob fails.
type deferral struct {
	active    bool
	successes int64 // successful requests over the link, when the deferral began
}

// finishSegment takes a segment back from a worker and applies the consequence of an error to its blob.
// newBytes of it were received that were not on disk before; err is why the request ended
// early. The returned error ends the session.
func (d *Downloader) finishSegment(ctx context.Context, s *segment, newBytes int64, err error) error {
	d.mu.Lock()
	now := time.Now()
	s.remove()
	c := retryBlob
	if newBytes > 0 {
		s.failures, s.deferral = failures{}, deferral{}
	}
	if err != nil && !s.dropped && !s.isOnDisk() { // other workers may have fetched the rest
		c = d.recordFailure(s.Blob, s.askedIn, newBytes > 0, err, now)
		d.meter.retries.Add(1)
	}
	if c == failBlob {
		s.dropped = true
		d.meter.failed.Add(1)
	}
	d.requeue(s.Blob, now)
	d.mu.Unlock()
	switch c {
	case endSession:
		return err
	case failBlob, deferBlob:
		d.sendResult(ctx, Result{s.Blob, err, c == deferBlob})
	}
	return nil
}

// recordFailure records a failed try to fetch a blob from the repository askedIn, and
// returns the consequence. A try that made progress never counts against the blob.
func (d *Downloader) recordFailure(b *Blob, askedIn int, progress bool, err error, now time.Time) consequence {
	kind := classify(err)
	switch kind {
	case localFailure, fileFailure, notStorable:
		return decide(kind, 1, 0)
	case refused, unauthorized:
		if d.link.isFinal(now, err) {
			if b.askedIn == askedIn { // another worker may have moved on already
				b.askedIn++
			}
			if b.askedIn < len(b.Repositories) {
				return retryBlob
			}
			return failBlob
		}
		kind = badAnswer
	}
	retryAfter := retry.After(err)
	if retryAfter > 0 || kind == linkFailed {
		d.link.pauseAfter(now, retryAfter, err)
	}
	if progress {
		return retryBlob
	}
	b.failures.addAndDelay(now, kind != linkFailed, d.link.successes, retryAfter)
	v := decide(kind, b.failures.count, now.Sub(b.failures.first))
	if v != deferBlob {
		return v
	}
	if b.deferral.active && d.link.successes > b.deferral.successes {
		return failBlob
	}
	b.deferral = deferral{true, d.link.successes}
	b.failures = failures{notBefore: b.failures.notBefore}
	d.log.Debug("blob is deferred", "digest", b.Digest, "err", err)
	return v
}

// sendResult sends a result to the reader of [Downloader.Run]'s channel.
func (d *Downloader) sendResult(ctx context.Context, r Result) {
	select {
	case d.results <- r:
	case <-ctx.Done():
	}
}
