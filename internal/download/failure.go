package download

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// ErrGarbled says that what a source sent makes no sense, or is not what its
// digest says: the link spoilt it, or the source has it so.
var ErrGarbled = errors.New("the source sent something else")

// A LocalError is this registry's own, of its disk or its database: no source
// can help.
type LocalError struct{ error }

// Local marks an error as this registry's own.
func Local(err error) error {
	if err == nil {
		return nil
	}
	return LocalError{err}
}

// Unwrap returns the error itself.
func (e LocalError) Unwrap() error { return e.error }

// A failure is a kind of error of a try at a blob.
type failure int

const (
	local        failure = iota // this registry's own
	unstorable                  // the disk is full, or the source sends more than the blob has
	busy                        // somebody else has the transfer open
	refused                     // by the source, for good
	unauthorized                // the source does not accept the credentials
	corrupt                     // all came, and is not what the digest says
	answered                    // the source answered, and not with the content
	cut                         // the link broke
)

func classify(err error) failure {
	switch {
	case errors.Is(err, oci.ErrNoSpace), errors.Is(err, oci.ErrSizeInvalid):
		return unstorable
	case errors.Is(err, storage.ErrBusy):
		return busy
	case errors.As(err, &LocalError{}):
		return local
	case retry.Unauthorized(err):
		return unauthorized
	case retry.Permanent(err):
		return refused
	case retry.Answered(err), errors.Is(err, ErrGarbled):
		return answered
	}
	return cut
}

// A verdict is what becomes of a blob after a failure.
type verdict int

const (
	tryAgain  verdict = iota
	deferBlob         // behind all others; if it goes on failing while others come, it fails
	failBlob
	endSync
)

// policy says for how many tries, and how long, a failure of a kind is tried
// again before its verdict holds: both must have passed. The count and time
// of [unauthorized] are the link's, of all others the blob's.
var policy = map[failure]struct {
	tries   int
	time    time.Duration
	verdict verdict
}{
	local:        {verdict: endSync},
	unstorable:   {verdict: failBlob},
	refused:      {verdict: failBlob}, // once no other repository has it
	unauthorized: {time: 5 * time.Second, verdict: failBlob},
	corrupt:      {tries: 2, verdict: failBlob},
	busy:         {tries: 3, time: time.Minute, verdict: deferBlob},
	answered:     {tries: 3, time: time.Minute, verdict: deferBlob},
	cut:          {tries: 3, time: time.Minute, verdict: deferBlob},
}

// decide returns the verdict on the latest of so many tries in a row.
func decide(kind failure, tries int, since time.Duration) verdict {
	if p := policy[kind]; tries >= p.tries && since >= p.time {
		return p.verdict
	}
	return tryAgain
}

// attempts are tries in a row that brought nothing. The zero value is none.
type attempts struct {
	first     time.Time
	count     int
	successes int64     // of the link, at the latest of them
	next      time.Time // no try before
	pauses    *retry.Backoff
}

// add notes another try in vain. A pause of its own is for a blob that fails
// while the link is good: the source answered, or others got through since
// the last try. It is no shorter than what the source asked for.
func (a *attempts) add(now time.Time, linkIsUp bool, successes int64, asked time.Duration) {
	if a.first.IsZero() {
		*a = attempts{first: now, successes: successes, pauses: retry.NewBackoff(firstPause, maxPause, pauseFactor)}
	}
	a.count++
	if (linkIsUp || successes > a.successes) && !now.Before(a.next) {
		a.next = now.Add(max(a.pauses.NextBackOff(), asked))
	}
	a.successes = successes
}

// A deferral is that a blob waits behind all others.
type deferral struct {
	active    bool
	successes int64 // of the link, when it began
}

// finish takes a segment back after fresh bytes of it came that were not here,
// and settles what becomes of its blob after err. The error ends the session.
func (d *Downloader) finish(ctx context.Context, s *segment, fresh int64, err error) error {
	d.mu.Lock()
	now := time.Now()
	s.drop()
	v := tryAgain
	if fresh > 0 {
		s.attempts, s.deferral = attempts{}, deferral{}
	}
	if err != nil && !s.unwanted && !(s.state == fetching && len(s.transfer.Missing()) == 0) { // else others brought it
		v = d.judge(s.Blob, s.repository, fresh > 0, err, now)
	}
	if v == failBlob {
		s.unwanted = true
	}
	d.place(s.Blob, now)
	d.mu.Unlock()
	switch v {
	case endSync:
		return err
	case failBlob, deferBlob:
		d.report(ctx, Result{s.Blob, err, v == deferBlob})
	}
	return nil
}

// judge notes a failed try at a blob in a repository, and returns what becomes
// of the blob.
func (d *Downloader) judge(b *Blob, repository int, progress bool, err error, now time.Time) verdict {
	kind := classify(err)
	switch kind {
	case local, unstorable:
		return decide(kind, 1, 0)
	case refused, unauthorized:
		if d.link.final(now, err) {
			if b.from == repository { // nobody has moved on yet
				b.from++
			}
			if b.from < len(b.Repositories) {
				return tryAgain
			}
			return failBlob
		}
		kind = answered
	}
	asked := retry.After(err)
	if asked > 0 || kind == cut {
		d.link.failed(now, asked, err)
	}
	if progress {
		return tryAgain
	}
	b.attempts.add(now, kind != cut, d.link.successes, asked)
	v := decide(kind, b.attempts.count, now.Sub(b.attempts.first))
	if v != deferBlob {
		return v
	}
	if b.deferral.active && d.link.successes > b.deferral.successes {
		return failBlob
	}
	b.deferral = deferral{true, d.link.successes}
	next := b.attempts.next
	b.attempts = attempts{next: next}
	d.log.Debug("blob is deferred", "digest", b.Digest, "err", err)
	return v
}

// report hands a result to whoever reads them.
func (d *Downloader) report(ctx context.Context, r Result) {
	select {
	case d.results <- r:
	case <-ctx.Done():
	}
}

// How long a blob is left alone whose content was wrong in several sessions,
// because then it is not the link: each time takes twice its bytes, which
// somebody pays for.
const (
	quarantineAfter    = 3
	quarantinePause    = time.Hour // doubles with each further session
	quarantineMaxPause = 24 * time.Hour
	maxQuarantined     = 10_000 // that are remembered
)

// A quarantine is the blobs whose content was wrong at the source, by digest
// and size, because a manifest may name a wrong size. The zero value is ready.
// It is lost with the process.
type quarantine map[content]badContent

type content struct {
	digest digest.Digest
	size   int64
}

type badContent struct {
	repository string // in which the source was asked for it
	reported   bool   // to the source
	sessions   int    // in which it was wrong
	pause      time.Duration
	until      time.Time
}

// add notes that the content of c was wrong in a session.
func (q *quarantine) add(c content, repository string, now time.Time) {
	if *q == nil || len(*q) >= maxQuarantined {
		*q = quarantine{}
	}
	b := (*q)[c]
	b.repository, b.reported = repository, false
	if b.sessions++; b.sessions >= quarantineAfter {
		b.pause = min(max(2*b.pause, quarantinePause), quarantineMaxPause)
		b.until = now.Add(b.pause)
	}
	(*q)[c] = b
}

// Quarantined returns an error while a blob of this size must not be fetched.
func (d *Downloader) Quarantined(blob digest.Digest, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.quarantine[content{blob, size}]; time.Now().Before(b.until) {
		until := b.until.UTC().Format(time.RFC3339)
		return fmt.Errorf("blob %s: its content was wrong, and is fetched again after %s", blob, until)
	}
	return nil
}

// maxSuspects is how many suspects are reported to a source at a time.
const maxSuspects = 16

// Suspects returns up to [maxSuspects] blobs whose content was wrong, which was not reported
// to the source yet.
func (d *Downloader) Suspects() (all []Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, b := range d.quarantine {
		if !b.reported && len(all) < maxSuspects {
			all = append(all, Ref{b.repository, c.digest})
		}
	}
	return all
}

// NoteReported notes that suspects were reported to the source.
func (d *Downloader) NoteReported(suspects []Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, b := range d.quarantine {
		if slices.Contains(suspects, Ref{b.repository, c.digest}) {
			b.reported = true
			d.quarantine[c] = b
		}
	}
}

// ClearQuarantine lets blobs be fetched again whose content was wrong, because
// somebody mended it at the source.
func (d *Downloader) ClearQuarantine() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.quarantine)
}
