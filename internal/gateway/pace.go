package gateway

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/retry"
	"ferry/internal/wire"
)

// paces say how fast a child may send requests of a kind: so many a second, after so
// many at once. Nobody who works as it should is slowed down: a poll that finds
// nothing new is held, and one that lists everything lists 5,000 items.
var paces = map[string]struct {
	rate  rate.Limit
	burst int
}{
	wire.PathActivate: {0.2, 10},
	wire.PathPoll:     {1, 100},
	wire.PathPlan:     {5, 100},
	wire.PathBlobs:    {100, 500},
}

const (
	// maxPause is how long a request is held for its sender's pace; one that would
	// be held for longer is put off.
	maxPause = 10 * time.Second
	// maxPaced is how many children's paces are remembered, by kind of request.
	maxPaced = 50_000
)

// A pace slows down each child that sends requests in a loop, so that it does not
// take from the others. nil slows down nobody.
type pace struct {
	mu sync.Mutex
	of map[paceKey]*rate.Limiter
}

type paceKey struct{ token, path string }

func newPace() *pace { return &pace{of: map[paceKey]*rate.Limiter{}} }

// wait returns when a child may go on with a request.
func (p *pace) wait(ctx context.Context, token, path string) error {
	if p == nil {
		return nil
	}
	r := p.limiter(paceKey{token, path}).Reserve()
	d := r.Delay()
	if d > maxPause {
		r.Cancel()
		return errBusy()
	}
	return retry.Sleep(ctx, d, nil)
}

func (p *pace) limiter(key paceKey) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[key]
	if l == nil {
		if len(p.of) >= maxPaced {
			clear(p.of)
		}
		l = rate.NewLimiter(paces[key.path].rate, paces[key.path].burst)
		p.of[key] = l
	}
	return l
}
