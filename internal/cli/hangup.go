package cli

import (
	"context"
	"slices"
	"sync/atomic"
)

// hangups are the signals SIGHUP of the process.
type hangups struct{ reload atomic.Pointer[chan struct{}] }

// watchHangups returns a context that ends with a SIGHUP, until a command takes the signals
// with [Env.reloads].
func (e *Env) watchHangups(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	streams := []any{e.Stdin, e.Stdout, e.Stderr} // a command may replace them
	wasOnTerminal := slices.ContainsFunc(streams, isTerminal)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-e.Hangup:
			}
			reload := e.hangups.reload.Load()
			// If the terminal was closed, nobody can stop the command there any more.
			closed := wasOnTerminal && !slices.ContainsFunc(streams, isTerminal)
			switch {
			case reload == nil || closed:
				if !e.IgnoreHangup {
					cancel()
				}
			default:
				select {
				case *reload <- struct{}{}:
				default: // one is waiting already
				}
			}
		}
	}()
	return ctx, cancel
}

// reloads returns a channel with an element for each SIGHUP from now on, which no longer ends
// the command.
func (e *Env) reloads() <-chan struct{} {
	c := make(chan struct{}, 1)
	e.hangups.reload.Store(&c)
	return c
}
