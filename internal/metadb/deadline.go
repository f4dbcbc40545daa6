package metadb

import (
	"context"
	"net"
	"sync"
	"time"
)

// A deadlineConn is a connection to PostgreSQL whose server must not be silent for too long while it
// is awaited. The server ends a slow statement by itself, but a server that is stopped, or behind a
// cut link, ends nothing.
type deadlineConn struct {
	net.Conn
	silence time.Duration

	mu    sync.Mutex
	given time.Time // the deadline that the driver set; zero is none
}

// dial returns the driver's dialer of connections with a limit on silence.
func dial(silence time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &deadlineConn{Conn: c, silence: silence}, nil
	}
}

// Read implements [net.Conn].
func (c *deadlineConn) Read(p []byte) (int, error) {
	if err := c.limit(c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements [net.Conn].
func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.limit(c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// limit sets the deadline of the next call, unless the driver set one.
func (c *deadlineConn) limit(set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.given.IsZero() {
		return nil
	}
	return set(time.Now().Add(c.silence))
}

// SetDeadline implements [net.Conn]. The driver calls it to interrupt a call that waits.
func (c *deadlineConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given = t
	return c.Conn.SetDeadline(t)
}
