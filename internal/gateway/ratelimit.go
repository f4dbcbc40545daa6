package gateway

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/retry"
	"ferry/internal/wire"
)

// requestRates are how many requests of a kind a child may send a second, after a burst. A child
// that works correctly is never slowed down: a poll without changes is held, and an answer of a
// pass over everything lists 5,000 items.
var requestRates = map[string]struct {
	rate  rate.Limit
	burst int
}{
	wire.PathActivate: {0.2, 10},
	wire.PathPoll:     {1, 100},
	wire.PathPlan:     {5, 100},
	wire.PathBlobs:    {100, 500},
	wire.PathPush:     {10, 100},
}

const (
	// maxThrottle is how long a request of a child that exceeds its rate is held. A request that
	// would be held longer is refused.
	maxThrottle = 10 * time.Second
	// maxLimiters is how many limiters are kept: each child has one for each kind of request.
	maxLimiters = 50_000
)

// rateLimits slow down a child that sends requests in a loop, so that the others do not suffer. nil
// slows down no child.
type rateLimits struct {
	mu sync.Mutex
	of map[limitKey]*rate.Limiter
}

type limitKey struct{ token, path string }

func newRateLimits() *rateLimits { return &rateLimits{of: map[limitKey]*rate.Limiter{}} }

// wait waits until a child may send a request.
func (p *rateLimits) wait(ctx context.Context, token, path string) error {
	if p == nil {
		return nil
	}
	r := p.limiter(limitKey{token, path}).Reserve()
	d := r.Delay()
	if d > maxThrottle {
		r.Cancel()
		return errBusy()
	}
	return retry.Sleep(ctx, d, nil)
}

func (p *rateLimits) limiter(key limitKey) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[key]
	if l == nil {
		if len(p.of) >= maxLimiters {
			clear(p.of)
		}
		l = rate.NewLimiter(requestRates[key.path].rate, requestRates[key.path].burst)
		p.of[key] = l
	}
	return l
}
