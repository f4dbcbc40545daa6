package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// A link is the way from the ship to the root: connections to it lead to the
// root, and what the root sends comes back at a rate.
type link struct {
	net.Listener
	root     string // its address
	limit    *rate.Limiter
	received atomic.Int64 // bytes that came back
}

// linkBurst is how many bytes may pass at once: no fewer than io.Copy reads.
const linkBurst = 64 << 10

// newLink opens a link to root, a host and port, that lets perSecond bytes a
// second come back, or as many as come where that is 0.
func newLink(root string, perSecond int64) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	l := &link{Listener: listener, root: root, limit: rate.NewLimiter(rate.Inf, linkBurst)}
	if perSecond > 0 {
		l.limit.SetLimit(rate.Limit(perSecond))
	}
	go func() {
		for {
			ship, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(ship)
		}
	}()
	return l, nil
}

// url is that of the root, as the ship sees it.
func (l *link) url() string { return "http://" + l.Addr().String() }

// join copies between the ship and the root until either ends the connection;
// a root that is switched off ends it at once.
func (l *link) join(ship net.Conn) {
	defer ship.Close()
	root, err := net.Dial("tcp", l.root)
	if err != nil {
		return
	}
	go func() {
		io.Copy(root, ship)
		root.Close()
	}()
	io.Copy(ship, io.TeeReader(root, l))
}

// Write counts what comes back, and takes as long as the link needs for it.
func (l *link) Write(p []byte) (int, error) {
	l.received.Add(int64(len(p)))
	return len(p), l.limit.WaitN(context.Background(), len(p))
}
