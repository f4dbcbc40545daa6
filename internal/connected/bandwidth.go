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

// burstsPerSecond is how many bursts a second's bytes are divided into. The
// bursts are small, so that the cap holds over short times, too, and no
// connection waits long.
const burstsPerSecond = 20

// A bandwidthCap limits the rate of all connections of syncs together. It follows
// the settings and the time of day without a restart.
type bandwidthCap struct {
	settings func() []string
	now      func() time.Time
	limiter  *rate.Limiter

	mu      sync.Mutex
	checked time.Time
}

// capCheck is how often the settings and the time of day are read.
const capCheck = time.Second

func newBandwidthCap(settings func() []string, now func() time.Time) *bandwidthCap {
	return &bandwidthCap{settings: settings, now: now, limiter: rate.NewLimiter(rate.Inf, 0)}
}

// refresh sets the limiter to the current rate.
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
		return // a newer parent knows more forms; the last rate still counts
	}
	limit := rate.Limit(b.At(now))
	if limit == 0 {
		limit = rate.Inf
	}
	if limit == c.limiter.Limit() {
		return
	}
	c.limiter.SetBurst(max(int(min(limit, 1<<40))/burstsPerSecond, 512))
	c.limiter.SetLimit(limit)
}

// maxRead returns how many bytes may be read at once; 0 is any number.
func (c *bandwidthCap) maxRead() int {
	c.refresh()
	if c.limiter.Limit() == rate.Inf {
		return 0
	}
	return c.limiter.Burst()
}

// wait waits until n bytes that were read are within the cap.
func (c *bandwidthCap) wait(ctx context.Context, n int) {
	for n > 0 && ctx.Err() == nil && c.limiter.Limit() != rate.Inf {
		part := min(n, max(c.limiter.Burst(), 1))
		if c.limiter.WaitN(ctx, part) == nil { // else the burst just became smaller
			n -= part
		}
	}
}

// A limitedParent is a parent whose blobs keep to the bandwidth cap and count for
// the byte budget. Plans do neither, with the small blobs in them.
type limitedParent struct {
	Parent
	agent *Agent
}

// Blob implements [download.Source].
func (p limitedParent) Blob(
	ctx context.Context, repository string, d digest.Digest, offset, length int64,
) (io.ReadCloser, int64, error) {
	body, start, err := p.Parent.Blob(ctx, repository, d, offset, length)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&limitedReader{body, ctx, p.agent}, body}, start, nil
}

// Batch implements [download.Batcher].
func (p limitedParent) Batch(
	ctx context.Context, want []download.Ref, fn func(i int, size int64, content io.Reader) error,
) error {
	return p.Parent.Batch(ctx, want, func(i int, size int64, content io.Reader) error {
		if content != nil {
			content = &limitedReader{content, ctx, p.agent}
		}
		return fn(i, size, content)
	})
}

type limitedReader struct {
	io.Reader
	ctx   context.Context // of the request
	agent *Agent
}

// Read implements [io.Reader].
func (r *limitedReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil { // another connection spent the rest of the budget
		return 0, context.Cause(r.ctx)
	}
	if most := r.agent.bandwidth.maxRead(); most > 0 && len(p) > most {
		p = p[:most]
	}
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.agent.spendBudget(r.ctx, n)
		r.agent.bandwidth.wait(r.ctx, n)
	}
	return n, err
}
