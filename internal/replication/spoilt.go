package replication

import (
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// How long a layer is left alone whose content was wrong in several Syncs, for
// then it is not the link: each time takes twice its bytes, which somebody
// pays for.
const (
	spoiltSyncs    = 3
	spoiltPause    = time.Hour // doubles with each further Sync
	spoiltMaxPause = 24 * time.Hour
	mostSpoilt     = 10_000 // that are remembered
)

// A larder knows the layers whose content was wrong at the source. The zero
// value is ready. What it knows goes with the process.
type larder struct {
	mu     sync.Mutex
	spoilt map[digest.Digest]spoiling
}

type spoiling struct {
	syncs int // in which it was wrong
	pause time.Duration
	until time.Time
}

// spoil notes that a Sync gave up d, for its content was wrong.
func (l *larder) spoil(d digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spoilt == nil || len(l.spoilt) >= mostSpoilt {
		l.spoilt = map[digest.Digest]spoiling{}
	}
	s := l.spoilt[d]
	if s.syncs++; s.syncs >= spoiltSyncs {
		s.pause = min(max(2*s.pause, spoiltPause), spoiltMaxPause)
		s.until = time.Now().Add(s.pause)
	}
	l.spoilt[d] = s
}

// fresh forgets that the content of d was wrong.
func (l *larder) fresh(d digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spoilt, d)
}

// open returns an error while d is to be left alone.
func (l *larder) open(d digest.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.spoilt[d]; time.Now().Before(s.until) {
		return fmt.Errorf("blob %s: its content was wrong, and is fetched again after %s", d, s.until.UTC().Format(time.RFC3339))
	}
	return nil
}

// Forgive lets the next Sync fetch what had wrong content at once, as somebody
// wants who mended it at the source.
func (e *Engine) Forgive() {
	e.larder.mu.Lock()
	defer e.larder.mu.Unlock()
	clear(e.larder.spoilt)
}
