package faultnet

import (
	"context"
	"net"
	"sync"
)

// A Pipe is a listener in memory, for tests with a fake clock
// (testing/synctest). Wrap it with [Network.Listen], and dial the pipe itself.
type Pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func() // closes closed, once
}

// NewPipe returns an open listener.
func NewPipe() *Pipe {
	p := &Pipe{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

// Dial connects to the listener. It has the form that net/http needs, and ignores
// the address.
func (p *Pipe) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements [net.Listener].
func (p *Pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (p *Pipe) Close() error {
	p.close()
	return nil
}

// Addr implements [net.Listener].
func (p *Pipe) Addr() net.Addr { return &net.UnixAddr{Net: "pipe", Name: "pipe"} }
