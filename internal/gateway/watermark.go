package gateway

import (
	"maps"
	"slices"
	"sync"
	"time"

	"ferry/internal/wire"
)

// watermarkPause is how long a held poll waits for more changes before it is answered with new
// watermarks alone.
const watermarkPause = 2 * time.Second

// hold says when a held poll is answered although there is nothing to list.
type hold struct {
	deadline <-chan time.Time
	news     <-chan time.Time // there are new watermarks; nil while there are none
}

// sentWatermarks are the watermarks in the last answer to each child since the start. A child that
// lost that answer gets them at the end of its next poll. The zero value is ready.
type sentWatermarks struct {
	mu sync.Mutex
	of map[string]watermarks
}

type watermarks struct {
	numbers map[string]int64
	lacking []wire.OutOfSyncItem
}

// maxSentWatermarks is how many children's watermarks are kept.
const maxSentWatermarks = 20_000

// has reports whether the child has been sent the watermarks of an answer.
func (s *sentWatermarks) has(child string, a *pollAnswer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.of[child]
	return maps.Equal(sent.numbers, a.Watermarks) && slices.Equal(sent.lacking, a.Lacking)
}

// set records an answer to a child. A child does not use watermarks before there is nothing more.
func (s *sentWatermarks) set(child string, a *pollAnswer) {
	if a.More {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(a.Watermarks) == 0 { // as at a root
		delete(s.of, child)
		return
	}
	if s.of == nil || len(s.of) >= maxSentWatermarks {
		s.of = map[string]watermarks{}
	}
	s.of[child] = watermarks{a.Watermarks, a.Lacking}
}
