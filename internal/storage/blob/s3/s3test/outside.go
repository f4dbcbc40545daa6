package s3test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/s3"
)

// workers is how many calls a store of [Outside] makes at a time.
const workers = 16

// Outside returns a store for a test in a bubble of package synctest. Its calls are made outside of the bubble,
// because requests are signed with the time of day, and connections that are idle would stop the bubble's clock.
func Outside(t testing.TB, s *s3.Store) blob.Store {
	t.Helper()
	o := &outside{s, make(chan *worker, workers)}
	for range workers {
		w := &worker{make(chan func()), make(chan struct{})}
		go func() {
			for call := range w.call {
				call()
				w.done <- struct{}{}
			}
		}()
		t.Cleanup(func() { close(w.call) })
		o.free <- w
	}
	return o
}

// A worker makes one call at a time.
type worker struct {
	call chan func()
	done chan struct{}
}

type outside struct {
	store *s3.Store
	free  chan *worker
}

func (o *outside) do(call func()) {
	w := <-o.free
	w.call <- call
	<-w.done
	o.free <- w
}

// run makes a call with the values of ctx only, whose end is in the bubble.
func (o *outside) run(ctx context.Context, call func(context.Context) error) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	o.do(func() { err = call(ctx) })
	return err
}

func (o *outside) Open(ctx context.Context, d digest.Digest) (r io.ReadSeekCloser, err error) {
	err = o.run(ctx, func(ctx context.Context) (err error) {
		r, err = o.store.Open(ctx, d)
		return err
	})
	return &outsideReader{o, r}, err
}

func (o *outside) Stat(ctx context.Context, d digest.Digest) (i blob.Info, err error) {
	err = o.run(ctx, func(ctx context.Context) (err error) {
		i, err = o.store.Stat(ctx, d)
		return err
	})
	return i, err
}

func (o *outside) Partial(ctx context.Context, id string) (p blob.Partial, err error) {
	err = o.run(ctx, func(ctx context.Context) (err error) {
		p, err = o.store.Partial(ctx, id)
		return err
	})
	return &outsidePartial{o, p}, err
}

func (o *outside) Commit(ctx context.Context, id string, d digest.Digest) error {
	return o.run(ctx, func(ctx context.Context) error { return o.store.Commit(ctx, id, d) })
}

func (o *outside) Reopen(ctx context.Context, d digest.Digest, id string) error {
	return o.run(ctx, func(ctx context.Context) error { return o.store.Reopen(ctx, d, id) })
}

func (o *outside) Discard(ctx context.Context, id string) error {
	return o.run(ctx, func(ctx context.Context) error { return o.store.Discard(ctx, id) })
}

func (o *outside) Delete(ctx context.Context, d digest.Digest) error {
	return o.run(ctx, func(ctx context.Context) error { return o.store.Delete(ctx, d) })
}

func (o *outside) Free(ctx context.Context) (int64, error) { return o.store.Free(ctx) }

// LeastSync implements [blob.Coarse].
func (o *outside) LeastSync() int64 { return o.store.LeastSync() }

// Keeps implements [blob.Keeper].
func (o *outside) Keeps(ctx context.Context, d digest.Digest) (keeps bool, err error) {
	err = o.run(ctx, func(ctx context.Context) (err error) {
		keeps, err = o.store.Keeps(ctx, d)
		return err
	})
	return keeps, err
}

// Clean implements [blob.Cleaner].
func (o *outside) Clean(ctx context.Context, before time.Time) (n int, err error) {
	err = o.run(ctx, func(ctx context.Context) (err error) {
		n, err = o.store.Clean(ctx, before)
		return err
	})
	return n, err
}

func (o *outside) Walk(ctx context.Context, fn func(blob.Info) error) error {
	var all []blob.Info
	err := o.run(ctx, func(ctx context.Context) error {
		return o.store.Walk(ctx, func(i blob.Info) error { all = append(all, i); return nil })
	})
	for i := 0; err == nil && i < len(all); i++ {
		err = fn(all[i])
	}
	return err
}

func (o *outside) WalkPartials(ctx context.Context, fn func(id string, size int64) error) error {
	sizes := map[string]int64{}
	err := o.run(ctx, func(ctx context.Context) error {
		return o.store.WalkPartials(ctx, func(id string, size int64) error { sizes[id] = size; return nil })
	})
	for id, size := range sizes {
		if err == nil {
			err = fn(id, size)
		}
	}
	return err
}

type outsideReader struct {
	*outside
	r io.ReadSeekCloser
}

func (r *outsideReader) Read(b []byte) (n int, err error) {
	r.do(func() { n, err = r.r.Read(b) })
	return n, err
}

func (r *outsideReader) Seek(offset int64, whence int) (n int64, err error) {
	r.do(func() { n, err = r.r.Seek(offset, whence) })
	return n, err
}

func (r *outsideReader) Close() (err error) {
	r.do(func() { err = r.r.Close() })
	return err
}

type outsidePartial struct {
	*outside
	p blob.Partial
}

func (p *outsidePartial) WriteAt(b []byte, offset int64) (n int, err error) {
	p.do(func() { n, err = p.p.WriteAt(b, offset) })
	return n, err
}

func (p *outsidePartial) ReadAt(b []byte, offset int64) (n int, err error) {
	p.do(func() { n, err = p.p.ReadAt(b, offset) })
	return n, err
}

func (p *outsidePartial) Size() (n int64, err error) {
	p.do(func() { n, err = p.p.Size() })
	return n, err
}

func (p *outsidePartial) Truncate(size int64) (err error) {
	p.do(func() { err = p.p.Truncate(size) })
	return err
}

func (p *outsidePartial) Sync() (err error) {
	p.do(func() { err = p.p.Sync() })
	return err
}

func (p *outsidePartial) Close() (err error) {
	p.do(func() { err = p.p.Close() })
	return err
}
