package scrub

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

// Limits on suspects. Others name them: children that received wrong content.
const (
	maxSuspects  = 64        // in the queue
	maxKnown     = 10_000    // remembered, so that they are not read again soon
	suspectSpeed = 16        // times the rate of a scrub
	suspectPause = time.Hour // between two reads of the same blob
)

// suspects are blobs that may be damaged.
type suspects struct {
	waiting chan digest.Digest
	limiter *rate.Limiter
	mu      sync.Mutex
	known   map[digest.Digest]time.Time // when they were named
}

func newSuspects(rate int64) suspects {
	return suspects{
		waiting: make(chan digest.Digest, maxSuspects), limiter: newLimiter(suspectSpeed * rate),
		known: map[digest.Digest]time.Time{},
	}
}

// Suspect queues the blob d to be read again, unless it was read recently, or the queue is
// full.
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

// RunSuspects reads suspects until ctx ends, faster than a scrub, because each try of a child costs
// bytes of its link.
func (s *Scrubber) RunSuspects(ctx context.Context) error {
	pace := func(ctx context.Context, n int) error { return wait(ctx, s.suspects.limiter, n) }
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
