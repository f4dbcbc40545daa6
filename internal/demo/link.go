package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/time/rate"
)

// A link is a proxy between the ship and the root. It limits the rate of the root's bytes,
// and can be cut.
type link struct {
	net.Listener
	root  string // its address
	limit *rate.Limiter

	mu     sync.Mutex
	passed int64             // bytes from the root that have passed
	cutAt  int64             // the value of passed at which the link is cut; 0 is never
	down   bool              // the link is cut, and accepts no connection
	open   map[net.Conn]bool // connections of the ship
}

// linkBurst is the number of bytes that may pass at once, at least the buffer of io.Copy.
const linkBurst = 64 << 10

// newLink opens a link to root, which is a host and port. perSecond is its rate in bytes; 0
// is no limit.
func newLink(root string, perSecond int64) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	l := &link{
		Listener: listener, root: root, limit: rate.NewLimiter(rate.Inf, linkBurst), open: map[net.Conn]bool{},
	}
	if perSecond > 0 {
		l.limit.SetLimit(rate.Limit(perSecond))
	}
	go func() {
		for {
			ship, err := listener.Accept()
			if err != nil {
				return
			}
			go l.forward(ship)
		}
	}()
	return l, nil
}

// url is the root's address for the ship.
func (l *link) url() string { return "http://" + l.Addr().String() }

// resetCount sets the counter of passed bytes to zero. The link is cut when the counter reaches
// cutAt; 0 is never.
func (l *link) resetCount(cutAt int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed, l.cutAt = 0, cutAt
}

// received returns the counter of passed bytes.
func (l *link) received() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed
}

// isCut reports whether the link is down.
func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// restore makes the link accept connections again.
func (l *link) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.cutAt = false, 0
}

// forward copies bytes between the ship and the root until one of them closes the
// connection, or the link is cut.
func (l *link) forward(ship net.Conn) {
	defer ship.Close()
	if !l.add(ship) {
		return
	}
	defer l.remove(ship)
	root, err := net.Dial("tcp", l.root)
	if err != nil {
		return
	}
	go func() {
		io.Copy(root, ship)
		root.Close()
	}()
	io.Copy(&toShip{l, ship}, root)
}

func (l *link) add(ship net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.down {
		l.open[ship] = true
	}
	return !l.down
}

func (l *link) remove(ship net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, ship)
}

var errCut = errors.New("the link is cut")

// toShip writes the root's bytes to the ship, at the rate of the link.
type toShip struct {
	*link
	ship net.Conn
}

func (w *toShip) Write(p []byte) (int, error) {
	if err := w.limit.WaitN(context.Background(), len(p)); err != nil {
		return 0, err
	}
	n, last := w.allow(int64(len(p)))
	written, err := w.ship.Write(p[:n])
	if last {
		w.cut()
		return written, errCut
	}
	return written, err
}

// allow counts up to n bytes, and returns how many may pass. last reports whether the link
// is cut after them, or already.
func (l *link) allow(n int64) (_ int64, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return 0, true
	}
	if l.cutAt > 0 {
		n = min(n, l.cutAt-l.passed)
	}
	l.passed += n
	return n, l.cutAt > 0 && l.passed >= l.cutAt
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for ship := range l.open {
		ship.Close()
	}
}
