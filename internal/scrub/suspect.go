package scrub

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Limits on suspects, which others name: children that got wrong content.
const (
	maxSuspects  = 64        // that wait
	maxKnown     = 10_000    // that are remembered
	suspectSpeed = 16        // times the rate of a pass
	suspectPause = time.Hour // between two reads of the same blob
)

// suspects are blobs that somebody doubts.
type suspects struct {
	waiting chan digest.Digest
	mu      sync.Mutex
	known   map[digest.Digest]time.Time // when they were doubted
}

func newSuspects() suspects {
	return suspects{waiting: make(chan digest.Digest, maxSuspects), known: map[digest.Digest]time.Time{}}
}

// Suspect lets the blob d be read again soon, unless it was lately, or too many wait.
func (s *Scrubber) Suspect(d digest.Digest) {
	now := s.Now()
	s.suspects.mu.Lock()
	defer s.suspects.mu.Unlock()
	if at, ok := s.suspects.known[d]; ok && now.Sub(at) < suspectPause && !at.After(now) {
		return
	}
	select {
	case s.suspects.waiting <- d:
	default:
		return
	}
	if len(s.suspects.known) >= maxKnown {
		clear(s.suspects.known)
	}
	s.suspects.known[d] = now
	s.Log.Info("blob is read again, because a connected registry got other content", "digest", d)
}

// runSuspects reads suspects, faster than a pass does: each try of a child costs a link bytes.
func (s *Scrubber) runSuspects(ctx context.Context) error {
	limiter := newLimiter(suspectSpeed * s.Rate)
	pace := func(ctx context.Context, n int) error { return wait(ctx, limiter, n) }
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-s.suspects.waiting:
			reason, err := s.Storage.VerifyBlob(ctx, d, pace)
			if err != nil && ctx.Err() == nil {
				s.Log.Warn("content cannot be read again", "digest", d, "err", err)
			}
			if err == nil && reason == "" {
				s.Log.Info("blob is whole here: its content changed on the way", "digest", d)
			}
		}
	}
}
