package replication

import (
	"context"
	"fmt"
	"io"
	"time"

	"ferry/internal/retry"
)

// bufferSize is how many bytes a connection is read at a time.
const bufferSize = 32 << 10

// work fetches and commits, as one of the hands, until nothing is left or it
// is one too many. Its error ends the Sync: it is ctx's, or this registry's
// own.
func (r *run) work(ctx context.Context, q *queue, hands *crew) error {
	buf := make([]byte, bufferSize)
	for {
		if hands.leave() {
			return nil
		}
		claims, err := q.next(ctx, hands.stride.extent())
		switch {
		case len(claims) == 0:
			hands.finish()
			return err
		case len(claims) > 1:
			err = r.tryBatch(ctx, q, claims, buf, hands)
		default:
			err = r.try(ctx, q, claims[0], err, buf, hands)
		}
		if err != nil {
			return err
		}
	}
}

// try does what a claim is for; err is why that cannot be, if it is not nil.
func (r *run) try(ctx context.Context, q *queue, c *claim, err error, buf []byte, hands *crew) error {
	if err == nil && c.Len() == 0 {
		return r.commitLayer(ctx, q, c.layer)
	}
	n := int64(0)
	if err == nil {
		n, err = r.fetch(ctx, q, c, buf, &hands.stride)
	}
	r.release(q, c, n)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	r.log.Debug("range is fetched again", "digest", c.digest, "bytes", n, "err", err)
	return r.judge(ctx, q, c, n > 0, err)
}

// release gives a claim back after n bytes came for it.
func (r *run) release(q *queue, c *claim, n int64) {
	q.release(c, n > 0)
	if n > 0 {
		r.moved(c.layer)
	}
}

// fetch brings the claimed range from the source and returns how many bytes
// came that were not here, which are kept also with an error.
func (r *run) fetch(ctx context.Context, q *queue, c *claim, buf []byte, stride *stride) (int64, error) {
	if err := r.link.wait(ctx); err != nil || q.stale(c) {
		return 0, err
	}
	ctx, watchdog := retry.Watch(ctx, r.stall)
	defer watchdog.Stop()
	s := &stream{run: r, claim: c, buf: buf, watchdog: watchdog}

	asked := time.Now()
	body, start, err := r.src.Blob(ctx, c.repositories[c.repository], c.digest, c.Start, c.Len())
	if err != nil {
		return 0, cause(ctx, err)
	}
	defer body.Close()
	wait := time.Since(asked)
	defer func() { stride.brought(s.received, wait, time.Since(asked)) }()
	s.body, s.at = body, start
	end := c.End
	if start > 0 {
		q.partly()
	}
	if start != c.Start {
		if start != 0 {
			return 0, fmt.Errorf("fetch %s: %w: it begins at byte %d, not %d", c.digest, errGarbled, start, c.Start)
		}
		if !q.wholly(c) {
			return 0, nil
		}
		end = c.size
	}
	err = s.until(ctx, end)
	if err == nil && end < c.size && s.more(ctx) && q.wholly(c) {
		err = s.until(ctx, c.size)
	}
	return s.fresh, cause(ctx, err)
}

// A stream is the answer to one request for a range.
type stream struct {
	*run
	*claim
	body     io.Reader
	buf      []byte
	held     int   // bytes in buf that are not written
	at       int64 // where they belong
	received int64
	fresh    int64 // of these, that were not here: a source without ranges begins anew
	watchdog *retry.Watchdog
}

// until writes what comes, up to the byte end of the layer.
func (s *stream) until(ctx context.Context, end int64) error {
	for s.at < end {
		var err error
		if s.held == 0 {
			s.held, err = s.body.Read(s.buf[:min(int64(len(s.buf)), end-s.at)])
		}
		if s.held > 0 {
			if err := s.write(ctx); err != nil {
				return err
			}
		}
		if err != nil && s.at < end {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetch %s: byte %d of %d: %w", s.digest, s.at, s.size, err)
		}
	}
	return nil
}

func (s *stream) write(ctx context.Context) error {
	n := int64(s.held)
	s.watchdog.Reset(s.stall)
	if s.received == 0 {
		s.link.good()
	}
	s.received += n
	fresh, err := s.transfer.Write(ctx, s.buf[:n], s.at)
	s.fresh += max(fresh, 0)
	s.meter.add(func(p *Progress) {
		p.Received += n
		s.layer.got(p, fresh)
	})
	if err != nil {
		return ownError{err}
	}
	s.at += n
	s.held = 0
	return nil
}

// more reports whether the source sends more than it was asked for: it knows
// no ranges. Where it does not, the connection can be used again.
func (s *stream) more(ctx context.Context) bool {
	n, _ := s.body.Read(s.buf[:1])
	s.held = n
	return n > 0
}
