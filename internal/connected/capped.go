package connected

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"ferry/internal/download"
	"ferry/internal/schedule"
)

// burst is how much of a second may come at once under a cap: little, so that
// the cap holds over short spans, too, and no connection waits long.
const burst = 20 // the part of a second

// A bandwidthCap is what all connections of a site's syncs together may take.
// It follows the site's settings and the time of day, without a restart.
type bandwidthCap struct {
	settings func() []string
	now      func() time.Time
	limiter  *rate.Limiter

	mu      sync.Mutex
	checked time.Time
}

// capCheck is how often the settings and the time of day are looked at.
const capCheck = time.Second

func newBandwidthCap(settings func() []string, now func() time.Time) *bandwidthCap {
	return &bandwidthCap{settings: settings, now: now, limiter: rate.NewLimiter(rate.Inf, 0)}
}

// refresh makes the limiter's rate what it is to be now.
func (c *bandwidthCap) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if age := now.Sub(c.checked); age >= 0 && age < capCheck {
		return
	}
	c.checked = now
	b, err := schedule.ParseBandwidth(c.settings())
	if err != nil {
		return // a newer parent's, or one that was refused there; what was goes on
	}
	limit := rate.Limit(b.At(now))
	if limit == 0 {
		limit = rate.Inf
	}
	if limit == c.limiter.Limit() {
		return
	}
	c.limiter.SetBurst(max(int(min(limit, 1<<40))/burst, 512))
	c.limiter.SetLimit(limit)
}

// most returns how many bytes may be read at once; 0 is any number.
func (c *bandwidthCap) most() int {
	c.refresh()
	if c.limiter.Limit() == rate.Inf {
		return 0
	}
	return c.limiter.Burst()
}

// pay waits until n bytes that were read have their time.
func (c *bandwidthCap) pay(ctx context.Context, n int) {
	for n > 0 && ctx.Err() == nil && c.limiter.Limit() != rate.Inf {
		part := min(n, max(c.limiter.Burst(), 1))
		if c.limiter.WaitN(ctx, part) == nil { // else the burst shrank just now
			n -= part
		}
	}
}

// A cappedSource is a source whose blobs come within the site's bandwidth, and
// are counted in its byte budget. What is small comes with plans, and is
// neither slowed nor counted.
type cappedSource struct {
	Parent
	agent *Agent
}

// Blob implements [download.Source].
func (s cappedSource) Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error) {
	body, start, err := s.Parent.Blob(ctx, repository, d, offset, length)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{s.capped(ctx, body), body}, start, nil
}

// Batch implements [download.Batcher].
func (s cappedSource) Batch(ctx context.Context, want []download.Ref, fn func(i int, size int64, content io.Reader) error) error {
	return s.Parent.Batch(ctx, want, func(i int, size int64, content io.Reader) error {
		if content != nil {
			content = s.capped(ctx, content)
		}
		return fn(i, size, content)
	})
}

func (s cappedSource) capped(ctx context.Context, content io.Reader) io.Reader {
	return &cappedReader{content, ctx, s.agent}
}

type cappedReader struct {
	io.Reader
	ctx   context.Context // of the request
	agent *Agent
}

// Read implements [io.Reader].
func (b *cappedReader) Read(p []byte) (int, error) {
	if most := b.agent.cap.most(); most > 0 && len(p) > most {
		p = p[:most]
	}
	n, err := b.Reader.Read(p)
	if n > 0 {
		b.agent.spend(b.ctx, n)
		b.agent.cap.pay(b.ctx, n)
	}
	return n, err
}
