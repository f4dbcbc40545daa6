package replication

import (
	"context"
	"sync"
	"time"

	"ferry/internal/retry"
)

// The pauses between tries grow with how long there was no success, to about
// a tenth of it, so that a link which comes back is used soon.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 15 * time.Second
)

// A link is what is known of the way to the source. All who use it pause
// while it is down, and go on with the first of them that gets through.
type link struct {
	mu      sync.Mutex
	backoff *retry.Backoff
	until   time.Time     // nobody tries before; zero while all is well
	peace   time.Time     // the source asked for it until then, whatever comes through
	up      chan struct{} // closed when somebody got through
	proofs  int64         // how often somebody did
	upsets  int64         // how often somebody did not, or it came back
	why     error         // the last try failed; nil since something came through
	since   time.Time     // tries have failed
}

// troubleAfter is for how long nothing comes through before that is worth a
// word: a cut that heals at once is none.
const troubleAfter = 5 * time.Second

func newLink() *link {
	return &link{backoff: retry.NewBackoff(firstPause, maxPause, 1.1), up: make(chan struct{})}
}

// failed notes that a try failed, and that the source wants to be left alone
// for asked, if that is not 0. Those that fail together count once.
func (l *link) failed(asked time.Duration, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upsets++
	now := time.Now()
	if l.why == nil {
		l.since = now
	}
	l.why = why
	if peace := now.Add(asked); asked > 0 && peace.After(l.peace) {
		l.peace = peace
	}
	if !now.Before(l.until) {
		l.until = now.Add(l.backoff.NextBackOff())
	}
}

// good notes that something came through.
func (l *link) good() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proofs++
	if !time.Now().Before(l.peace) {
		l.why = nil
	}
	if l.until.IsZero() {
		return
	}
	l.upsets++
	l.until = time.Time{}
	l.backoff.Reset()
	close(l.up)
	l.up = make(chan struct{})
}

// trouble returns why nothing comes through, nil where all is well, and until
// when the source wants to be left alone, if it said so.
func (l *link) trouble() (until time.Time, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case l.why != nil && now.Before(l.peace):
		return l.peace, l.why
	case now.Sub(l.since) < troubleAfter:
		return time.Time{}, nil
	}
	return time.Time{}, l.why
}

// unrest counts the tries that failed so far, and how often the link came
// back: while it stays the same, the link was up all the time.
func (l *link) unrest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.upsets
}

// proof counts what came through so far.
func (l *link) proof() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proofs
}

// wait returns when it is time for a try, or with ctx's cause.
func (l *link) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		pause, up := max(time.Until(l.until), time.Until(l.peace)), l.up
		l.mu.Unlock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if pause <= 0 {
			return nil
		}
		if err := retry.Sleep(ctx, pause, up); err != nil {
			return err
		}
	}
}
