package telemetry

import (
	"context"
	"net"
	"sync/atomic"
)

// A Traffic counts the bytes of connections, with all headers and TLS. The zero value is ready.
type Traffic struct{ received, sent atomic.Int64 }

// Received returns the bytes that were received.
func (t *Traffic) Received() int64 { return t.received.Load() }

// Sent returns the bytes that were sent.
func (t *Traffic) Sent() int64 { return t.sent.Load() }

// A DialContext opens a connection, as [net.Dialer.DialContext] does.
type DialContext func(ctx context.Context, network, address string) (net.Conn, error)

// Dial returns a function that opens connections with dial, and counts their bytes.
func (t *Traffic) Dial(dial DialContext) DialContext {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{c, t}, nil
	}
}

type countedConn struct {
	net.Conn
	traffic *Traffic
}

// Read implements [net.Conn].
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.traffic.received.Add(int64(n))
	return n, err
}

// Write implements [net.Conn].
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.sent.Add(int64(n))
	return n, err
}
