package fleet

import (
	"context"
	"time"
)

// How often [Service.Run] looks for changes.
const (
	lookPause = 5 * time.Second // at least, between two looks
	lookEvery = time.Minute     // at most
)

// Run looks at every change to the content soon after it, until ctx ends. So the time since when a
// descendant is not equal to its parent is right, even if nobody asks for it. An error is not
// reported, because the next request meets it, too.
func (s *Service) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed, stop := s.content.Watch("fleet", func(string) bool { return true })
		_ = s.content.View(ctx, s.refresh)
		pause(ctx, lookPause, nil)
		pause(ctx, lookEvery-lookPause, changed)
		stop()
	}
	return nil
}

// pause waits for d, or until one of the channels is closed.
func pause(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
	case <-changed:
	case <-ctx.Done():
	}
}
