package faultnet

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// piece is how many bytes are sent at a time. It is small, so that a limited rate is even.
const piece = 16 << 10

// conn is the server's end of a connection.
type conn struct {
	net.Conn
	network *Network
	asked   atomic.Bool // bytes came since the last write
	closed  chan struct{}
	hangUp  func() // closes closed, once

	// The bytes until each fault, drawn for the network's epoch. Only Write uses
	// them, and servers write from one goroutine at a time.
	epoch                 int
	cutIn, stallIn, badIn int64
}

// Read implements [net.Conn]. If the other end has closed the connection, a
// stalled Write ends, too.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.asked.Store(true)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.hangUp()
	}
	return n, err
}

// Write implements [net.Conn]. It returns [net.ErrClosed] once the
// connection is cut.
func (c *conn) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, wait, bad, stall := c.draw(p[sent:])
		if !c.sleep(wait) {
			return sent, net.ErrClosed
		}
		if n == 0 {
			if stall {
				<-c.closed
			} else {
				c.network.mu.Lock()
				c.cut()
				c.network.mu.Unlock()
			}
			return sent, net.ErrClosed
		}
		out := p[sent : sent+n]
		if bad >= 0 {
			out = slices.Clone(out)
			out[bad] ^= 1 << (bad % 8)
		}
		n, err := c.Conn.Write(out)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// draw returns how many bytes of p are sent next, the wait before that, and the
// index of the byte that is corrupted, or -1. If n is 0, the connection stalls if stall is
// true; otherwise it is cut.
func (c *conn) draw(p []byte) (n int, wait time.Duration, bad int, stall bool) {
	w := c.network
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.faults
	if c.epoch != w.epoch {
		c.epoch = w.epoch
		c.cutIn, c.stallIn = w.bytesToFault(f.CutEvery), w.bytesToFault(f.StallEvery)
		c.badIn = w.bytesToFault(f.CorruptEvery)
	}
	if c.asked.Swap(false) {
		wait = f.Delay
	}
	n, bad = min(len(p), piece), -1
	if f.CutEvery > 0 {
		n = int(min(int64(n), c.cutIn))
		c.cutIn -= int64(n)
	}
	if f.StallEvery > 0 && n > 0 {
		n = int(min(int64(n), c.stallIn))
		c.stallIn -= int64(n)
		stall = n == 0
	}
	if f.CorruptEvery > 0 {
		if c.badIn <= int64(n) && n > 0 {
			bad = int(c.badIn) - 1
			c.badIn = w.bytesToFault(f.CorruptEvery)
		} else {
			c.badIn -= int64(n)
		}
	}
	if f.Rate > 0 {
		now := time.Now()
		if w.free.Before(now) {
			w.free = now
		}
		w.free = w.free.Add(time.Duration(int64(n) * int64(time.Second) / f.Rate))
		wait += w.free.Sub(now)
	}
	return n, wait, bad, stall
}

// bytesToFault draws the number of bytes until the next fault; its average is mean.
func (n *Network) bytesToFault(mean int64) int64 {
	if mean <= 0 {
		return 0
	}
	return 1 + n.rng.Int64N(2*mean)
}

// sleep waits for d, and returns true if the connection is still open. It makes no
// timer that is due at once: if several goroutines do so on the clock of
// testing/synctest, the race detector of Go 1.26 crashes (go.dev/issue/78156).
func (c *conn) sleep(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-c.closed:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.closed:
		return false
	case <-timer.C:
		return true
	}
}

// cut closes the connection, with a reset if that is possible. The caller holds
// the network's lock.
func (c *conn) cut() {
	delete(c.network.conns, c)
	if t, ok := c.Conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.hangUp()
	c.Conn.Close()
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	c.hangUp()
	return c.Conn.Close()
}
