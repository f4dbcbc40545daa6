package storage

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// sightings remembers which blobs this process has seen in the blob store not long ago, so that most
// links to an object store cost no request to it. It forgets a blob one to two sightingLifetimes
// after it was seen. The zero value has seen nothing.
type sightings struct {
	mu            sync.Mutex
	recent, older map[digest.Digest]bool
	since         time.Time // when the first of recent was seen
}

const (
	sightingLifetime = time.Minute
	maxSightings     = 10_000 // in recent
)

// age forgets what was seen too long ago.
func (s *sightings) age(now time.Time) {
	switch since := now.Sub(s.since); {
	case since >= 2*sightingLifetime || since < 0:
		s.recent, s.older, s.since = map[digest.Digest]bool{}, nil, now
	case since >= sightingLifetime || len(s.recent) >= maxSightings:
		s.recent, s.older, s.since = map[digest.Digest]bool{}, s.recent, now
	}
}

// has reports whether a blob was seen.
func (s *sightings) has(d digest.Digest, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age(now)
	return s.recent[d] || s.older[d]
}

// add records that a blob was seen.
func (s *sightings) add(d digest.Digest, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age(now)
	s.recent[d] = true
}
