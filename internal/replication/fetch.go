package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// errStalled is the cause with which a connection that moves nothing is dropped.
var errStalled = errors.New("the connection moved no byte for too long")

// fetchAll works off every item that is to come, a batch at a time.
func (e *Engine) fetchAll(ctx context.Context, src Source, result *Result) error {
	repository, item := "", ""
	for {
		rows, err := e.open(ctx, repository, item)
		if err != nil || len(rows) == 0 {
			return err
		}
		last := rows[len(rows)-1]
		repository, item = last.Repository, last.Item
		var wanted []metadb.SyncItem
		for _, row := range rows {
			if row.Digest != "" {
				wanted = append(wanted, row)
			}
		}
		e.meter.itemsTotal.Add(int64(len(wanted)))
		if err := e.fetchBatch(ctx, src, wanted, result); err != nil {
			return err
		}
	}
}

func (e *Engine) fetchBatch(ctx context.Context, src Source, rows []metadb.SyncItem, result *Result) error {
	images, err := e.here(ctx, rows, result)
	if err != nil || len(images) == 0 {
		return err
	}
	p, err := e.askPlan(ctx, src, images)
	if err != nil {
		return err
	}
	all, err := e.assemble(ctx, p, images)
	if err != nil {
		return err
	}
	b := &batch{Engine: e, src: src, queue: newQueue(e, p.order), result: result}
	for _, im := range all { // what needs no layer is whole already
		if err := b.advance(ctx, im); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for range e.workers {
		g.Go(func() error { return b.work(gctx) })
	}
	return errors.Join(g.Wait(), b.queue.close())
}

// A batch is a planned set of images on its way in.
type batch struct {
	*Engine
	src    Source
	queue  *queue
	images sync.Mutex // guards every image and the result
	result *Result
}

// work fetches and commits until nothing is left. Its error ends the Sync:
// it is ctx's, or this registry's own.
func (b *batch) work(ctx context.Context) error {
	patience := newPatience()
	for {
		l, r, err := b.queue.next(ctx)
		if err != nil || l == nil {
			return err
		}
		if r.Len() == 0 {
			if err := b.commitLayer(ctx, l); err != nil {
				return err
			}
			continue
		}
		n, err := b.fetch(ctx, l, r)
		b.queue.release(l, r)
		if n > 0 {
			patience.reset()
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err):
			if err := b.giveUp(ctx, l, err); err != nil {
				return err
			}
		default:
			b.log.Debug("range is fetched again", "digest", l.digest, "bytes", n, "err", err)
			if err := patience.wait(ctx, err); err != nil {
				return err
			}
		}
	}
}

// fetch brings the range r of l from the source and returns how many bytes
// came, which are kept also with an error.
func (b *batch) fetch(ctx context.Context, l *layer, r storage.Range) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(b.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()

	body, start, err := b.src.Blob(ctx, l.repositories[0], l.digest, r.Start, r.Len())
	if err != nil {
		return 0, cause(ctx, err)
	}
	defer body.Close()
	if start != r.Start {
		if start != 0 {
			return 0, fmt.Errorf("fetch %s: the source sent byte %d, not %d", l.digest, start, r.Start)
		}
		if !b.queue.alone(l) {
			return 0, nil
		}
		r = storage.Range{Start: 0, End: l.size}
	}
	n, err := b.write(ctx, l, r, body, watchdog)
	return n, cause(ctx, err)
}

// write puts what comes from body to r.Start and on, until r's end.
func (b *batch) write(ctx context.Context, l *layer, r storage.Range, body io.Reader, watchdog *time.Timer) (int64, error) {
	buf := make([]byte, 64<<10)
	at := r.Start
	for at < r.End {
		n, err := body.Read(buf[:min(int64(len(buf)), r.End-at)])
		if n > 0 {
			watchdog.Reset(b.stall)
			b.meter.received.Add(int64(n))
			fresh, err := l.transfer.Write(ctx, buf[:n], at)
			b.meter.bytesDone.Add(fresh)
			if err != nil {
				return at - r.Start, err
			}
			at += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return at - r.Start, fmt.Errorf("fetch %s: %w", l.digest, err)
		}
	}
	if at < r.End {
		return at - r.Start, fmt.Errorf("fetch %s: the source closed at byte %d of %d", l.digest, at, r.End)
	}
	return at - r.Start, nil
}

// commitLayer makes l a blob and whatever waited for it visible.
func (b *batch) commitLayer(ctx context.Context, l *layer) error {
	again, err := b.queue.commit(ctx, l)
	switch {
	case again:
		b.log.Warn("content was wrong and is fetched again", "digest", l.digest)
		return nil
	case permanent(err):
		return b.giveUp(ctx, l, err)
	case err != nil:
		return err
	}
	if err := b.queue.finish(l); err != nil {
		return err
	}
	b.images.Lock()
	defer b.images.Unlock()
	for _, im := range l.images {
		delete(im.layers, l)
		if err := b.advanceLocked(ctx, im); err != nil {
			return err
		}
	}
	return nil
}

// giveUp lets the images that need l fail for the reason err.
func (b *batch) giveUp(ctx context.Context, l *layer, err error) error {
	if err := b.queue.finish(l); err != nil && !errors.Is(err, oci.ErrNoSpace) {
		return err
	}
	b.images.Lock()
	defer b.images.Unlock()
	for _, im := range l.images {
		im.fail(err)
		if err := b.advanceLocked(ctx, im); err != nil {
			return err
		}
	}
	return nil
}

// advance makes im visible if it is whole, then the referrers that waited for
// it, and notes the outcome.
func (b *batch) advance(ctx context.Context, im *image) error {
	b.images.Lock()
	defer b.images.Unlock()
	return b.advanceLocked(ctx, im)
}

func (b *batch) advanceLocked(ctx context.Context, im *image) error {
	for _, part := range append([]*image{im}, im.referrers...) {
		if !part.ready() {
			continue
		}
		if err := part.commit(ctx, b.storage); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			part.fail(err)
		}
	}
	return b.settleImage(ctx, im, b.result)
}
