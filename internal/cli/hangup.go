package cli

import (
	"context"
	"sync/atomic"
)

// hangups are the signals SIGHUP of the process.
type hangups struct{ reload atomic.Pointer[chan struct{}] }

// watchHangups returns a context that ends with a SIGHUP, until a command takes the signals
// with [Env.reloads].
func (e *Env) watchHangups(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	onTerminal := e.onTerminal()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-e.Hangup:
			}
			reload := e.hangups.reload.Load()
			closed := onTerminal && !e.onTerminal() // nobody can stop the command there any more
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

// onTerminal reports whether the process has a terminal.
func (e *Env) onTerminal() bool {
	return isTerminal(e.Stdin) || isTerminal(e.Stdout) || isTerminal(e.Stderr)
}

// reloads returns a channel with an element for each SIGHUP from now on, which no longer ends
// the command.
func (e *Env) reloads() <-chan struct{} {
	c := make(chan struct{}, 1)
	e.hangups.reload.Store(&c)
	return c
}
