package retry

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrStalled is the error of a request whose response has stalled.
var ErrStalled = errors.New("the other end sent nothing for too long")

// A Watchdog ends a request if no byte of its response arrives within a timeout.
type Watchdog struct {
	ctx    context.Context // the request's
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// Watch returns a context for one request, and its watchdog. The context ends with
// [ErrStalled] if the watchdog is not reset within timeout. The caller must stop the watchdog
// after the request.
func Watch(ctx context.Context, timeout time.Duration) (context.Context, *Watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &Watchdog{ctx, cancel, time.AfterFunc(timeout, func() { cancel(ErrStalled) })}
}

// Reset starts the timeout anew.
func (w *Watchdog) Reset(timeout time.Duration) { w.timer.Reset(timeout) }

// Stop stops the watchdog and cancels the request's context.
func (w *Watchdog) Stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// Cause returns [ErrStalled] if the request failed because it stalled, and err otherwise.
func (w *Watchdog) Cause(err error) error {
	if err != nil && context.Cause(w.ctx) == ErrStalled {
		return ErrStalled
	}
	return err
}

// Body wraps the body of a response. Every byte that is read resets the watchdog to timeout;
// closing the body stops it.
func (w *Watchdog) Body(body io.ReadCloser, timeout time.Duration) io.ReadCloser {
	w.Reset(timeout)
	return &watchedBody{body, w, timeout}
}

type watchedBody struct {
	io.ReadCloser
	watchdog *Watchdog
	timeout  time.Duration
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watchdog.Reset(b.timeout)
	}
	return n, b.watchdog.Cause(err)
}

// Close implements [io.Closer].
func (b *watchedBody) Close() error {
	b.watchdog.Stop()
	return b.ReadCloser.Close()
}
