package gateway

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled is the cause with which a request is given up.
var errStalled = errors.New("the parent sent nothing for too long")

// A watchdog ends a request whose answer does not move.
type watchdog struct {
	ctx    context.Context // the request's
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// watch returns the context of a request whose answer is to begin within
// patience.
func watch(ctx context.Context, patience time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{ctx, cancel, time.AfterFunc(patience, func() { cancel(errStalled) })}
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause prefers the reason for which the request was ended to the error that
// followed.
func (w *watchdog) cause(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return errStalled
	}
	return err
}

// over watches the answer's body from now on, and until it is closed.
func (w *watchdog) over(body io.ReadCloser) io.ReadCloser {
	w.timer.Reset(stall)
	return &watched{body, w}
}

type watched struct {
	io.ReadCloser
	dog *watchdog
}

// Read implements [io.Reader].
func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.dog.timer.Reset(stall)
	}
	return n, b.dog.cause(err)
}

// Close implements [io.Closer].
func (b *watched) Close() error {
	b.dog.stop()
	return b.ReadCloser.Close()
}
