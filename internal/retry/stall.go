package retry

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrStalled is the error of a request whose peer sent nothing for too long.
var ErrStalled = errors.New("the other end sent nothing for too long")

// A Watchdog ends a request whose answer does not move.
type Watchdog struct {
	ctx    context.Context // the request's
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// Watch returns a context for one request. It ends with [ErrStalled] unless
// the watchdog is reset within patience. Stop the watchdog when the request is
// over.
func Watch(ctx context.Context, patience time.Duration) (context.Context, *Watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &Watchdog{ctx, cancel, time.AfterFunc(patience, func() { cancel(ErrStalled) })}
}

// Reset gives the request patience from now on.
func (w *Watchdog) Reset(patience time.Duration) { w.timer.Reset(patience) }

// Stop ends the request's context.
func (w *Watchdog) Stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// Cause returns [ErrStalled] if that is why the request failed, and else err.
func (w *Watchdog) Cause(err error) error {
	if err != nil && context.Cause(w.ctx) == ErrStalled {
		return ErrStalled
	}
	return err
}

// Body returns an answer's body that resets the watchdog to patience with
// everything that is read, and stops it when it is closed.
func (w *Watchdog) Body(body io.ReadCloser, patience time.Duration) io.ReadCloser {
	w.Reset(patience)
	return &watchedBody{body, w, patience}
}

type watchedBody struct {
	io.ReadCloser
	dog      *Watchdog
	patience time.Duration
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.dog.Reset(b.patience)
	}
	return n, b.dog.Cause(err)
}

// Close implements [io.Closer].
func (b *watchedBody) Close() error {
	b.dog.Stop()
	return b.ReadCloser.Close()
}
