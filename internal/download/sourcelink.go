package download

import (
	"context"
	"time"

	"ferry/internal/retry"
)

// The back-off of the link. Pauses grow to about a tenth of the time without success, so
// that a link that comes back is soon used.
const (
	firstPause  = 100 * time.Millisecond
	maxPause    = 15 * time.Second
	pauseFactor = 1.1
)

// reportAfter is how long requests must fail before [Downloader.LinkError] reports it. A
// cut that heals at once is not reported.
const reportAfter = 5 * time.Second

// A sourceLink is the state of the connection to the source. While the link is down, all
// requests pause; the first one that succeeds ends the pause. The Downloader's lock
// guards it.
type sourceLink struct {
	backoff      *retry.Backoff
	pausedUntil  time.Time // end of the back-off; zero while the link is up
	retryAfter   time.Time // end of the pause that the source asked for, which no success shortens
	successes    int64     // number of requests that succeeded
	lastError    error     // of the last request; nil after a success
	failingSince time.Time // when requests began to fail
	unauthorized failures  // consecutive refusals of the credentials
}

func newSourceLink() sourceLink {
	return sourceLink{backoff: retry.NewBackoff(firstPause, maxPause, pauseFactor)}
}

// pauseAfter records a failed request. If the source asked for a pause, retryAfter is not 0.
// Requests that fail during a pause do not prolong the back-off.
func (l *sourceLink) pauseAfter(now time.Time, retryAfter time.Duration, err error) {
	if l.lastError == nil {
		l.failingSince = now
	}
	l.lastError = err
	if until := now.Add(retryAfter); retryAfter > 0 && until.After(l.retryAfter) {
		l.retryAfter = until
	}
	if !now.Before(l.pausedUntil) {
		l.pausedUntil = now.Add(l.backoff.NextBackOff())
	}
}

// succeeded records a request that succeeded, and reports whether it ended a back-off.
func (l *sourceLink) succeeded(now time.Time) (back bool) {
	l.successes++
	if !now.Before(l.retryAfter) {
		l.lastError = nil
	}
	if back = !l.pausedUntil.IsZero(); back {
		l.pausedUntil = time.Time{}
		l.backoff.Reset()
	}
	return back
}

// nextRequestAt returns when the next request may be made.
func (l *sourceLink) nextRequestAt() time.Time {
	if l.retryAfter.After(l.pausedUntil) {
		return l.retryAfter
	}
	return l.pausedUntil
}

// isFinal reports whether a refusal by the source is permanent. Refused credentials are
// permanent only if they are refused for a while: expired ones are renewed meanwhile.
func (l *sourceLink) isFinal(now time.Time, err error) bool {
	if !retry.Unauthorized(err) {
		return retry.Permanent(err)
	}
	if u := &l.unauthorized; u.first.IsZero() || l.successes > u.successes {
		*u = failures{first: now, successes: l.successes}
	}
	l.unauthorized.count++
	return decide(unauthorized, l.unauthorized.count, now.Sub(l.unauthorized.first)) == failBlob
}

// WaitForLink returns when a request may be made, or with ctx's cause.
func (d *Downloader) WaitForLink(ctx context.Context) error {
	for {
		d.mu.Lock()
		pause, wake := time.Until(d.link.nextRequestAt()), d.changed
		d.mu.Unlock()
		if pause <= 0 || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := retry.Sleep(ctx, pause, wake); err != nil {
			return err
		}
	}
}

// RequestSucceeded records that the source answered a request other than for a blob.
func (d *Downloader) RequestSucceeded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link.succeeded(time.Now()) {
		d.wakeWorkers()
	}
}

// RequestFailed records that a request other than for a blob failed.
func (d *Downloader) RequestFailed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link.pauseAfter(time.Now(), retry.After(err), err)
}

// IsFinal reports whether a request other than for a blob failed permanently. It counts
// the error: see [link.isFinal].
func (d *Downloader) IsFinal(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link.isFinal(time.Now(), err)
}

// LinkError returns why requests fail; nil if they succeed. If the source asked for a
// pause, until is its end.
func (d *Downloader) LinkError() (until time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, now := d.link, time.Now()
	switch {
	case l.lastError != nil && now.Before(l.retryAfter):
		return l.retryAfter, l.lastError
	case now.Sub(l.failingSince) < reportAfter:
		return time.Time{}, nil
	}
	return time.Time{}, l.lastError
}
