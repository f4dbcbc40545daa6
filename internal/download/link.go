package download

import (
	"context"
	"time"

	"ferry/internal/retry"
)

// The pauses between tries grow with how long there was no success, to about
// a tenth of it, so that a link which comes back is used soon.
const (
	firstPause  = 100 * time.Millisecond
	maxPause    = 15 * time.Second
	pauseFactor = 1.1
)

// troubleAfter is for how long nothing comes through before that is reported:
// a cut that heals at once is not worth a word.
const troubleAfter = 5 * time.Second

// A link is what is known of the way to the source. All requests pause while
// it is down, and go on with the first that gets through. The Downloader's
// lock guards it.
type link struct {
	pauses    *retry.Backoff
	until     time.Time // no request before; zero while all is well
	asked     time.Time // the source asked for no request before, whatever comes through
	successes int64     // requests that brought something
	err       error     // of the last request; nil since something came through
	since     time.Time // when requests began to fail
	rejected  attempts  // of the credentials, in a row
}

func newLink() link { return link{pauses: retry.NewBackoff(firstPause, maxPause, pauseFactor)} }

// failed notes that a request failed, and that the source asked for a pause,
// if that is not 0. Those that fail together count once.
func (l *link) failed(now time.Time, asked time.Duration, err error) {
	if l.err == nil {
		l.since = now
	}
	l.err = err
	if until := now.Add(asked); asked > 0 && until.After(l.asked) {
		l.asked = until
	}
	if !now.Before(l.until) {
		l.until = now.Add(l.pauses.NextBackOff())
	}
}

// good notes that something came through, and reports whether the link was
// down until then.
func (l *link) good(now time.Time) (back bool) {
	l.successes++
	if !now.Before(l.asked) {
		l.err = nil
	}
	if back = !l.until.IsZero(); back {
		l.until = time.Time{}
		l.pauses.Reset()
	}
	return back
}

// heldUntil is when the next request may be made.
func (l *link) heldUntil() time.Time {
	if l.asked.After(l.until) {
		return l.asked
	}
	return l.until
}

// final reports whether the source's refusal err is one for good: bad
// credentials are not at once, because those that expired are renewed meanwhile.
func (l *link) final(now time.Time, err error) bool {
	if !retry.Unauthorized(err) {
		return retry.Permanent(err)
	}
	if r := &l.rejected; r.first.IsZero() || l.successes > r.successes {
		*r = attempts{first: now, successes: l.successes}
	}
	l.rejected.count++
	return decide(unauthorized, l.rejected.count, now.Sub(l.rejected.first)) == failBlob
}

// Wait returns when it is time for a request to the source, or with ctx's
// cause.
func (d *Downloader) Wait(ctx context.Context) error {
	for {
		d.mu.Lock()
		pause, wake := time.Until(d.link.heldUntil()), d.changed
		d.mu.Unlock()
		if pause <= 0 || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := retry.Sleep(ctx, pause, wake); err != nil {
			return err
		}
	}
}

// Succeeded notes that the source answered a request that was not for a blob.
func (d *Downloader) Succeeded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link.good(time.Now()) {
		d.wake()
	}
}

// Failed notes that such a request failed.
func (d *Downloader) Failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link.failed(time.Now(), retry.After(err), err)
}

// Final reports whether the source's answer err stands, so that another try is
// useless.
func (d *Downloader) Final(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link.final(time.Now(), err)
}

// Trouble returns why nothing comes through, nil if all is well, and until
// when the source asked for a pause, if it did.
func (d *Downloader) Trouble() (until time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, now := d.link, time.Now()
	switch {
	case l.err != nil && now.Before(l.asked):
		return l.asked, l.err
	case now.Sub(l.since) < troubleAfter:
		return time.Time{}, nil
	}
	return time.Time{}, l.err
}
