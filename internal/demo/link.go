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

// A link is the way from the ship to the root: connections to it lead to the
// root, and what the root sends comes back at a rate. It can be cut.
type link struct {
	net.Listener
	root  string // its address
	limit *rate.Limiter

	mu    sync.Mutex
	came  int64             // bytes that came back
	cutAt int64             // at how many of them the link is cut; 0 is never
	down  bool              // it is cut, and takes no connection
	open  map[net.Conn]bool // connections of the ship
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
			go l.join(ship)
		}
	}()
	return l, nil
}

// url is the root's address, as the ship sees it.
func (l *link) url() string { return "http://" + l.Addr().String() }

// count begins to count what comes back. Once so many bytes came, the link is
// cut; 0 is never.
func (l *link) count(cutAt int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came, l.cutAt = 0, cutAt
}

// received is how many bytes came back since they are counted.
func (l *link) received() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.came
}

// isCut reports whether the link is down.
func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// mend takes connections again.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.cutAt = false, 0
}

// join copies between the ship and the root until either ends the connection, or
// the link is cut; a root that is switched off ends it at once.
func (l *link) join(ship net.Conn) {
	defer ship.Close()
	if !l.enter(ship) {
		return
	}
	defer l.leave(ship)
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

func (l *link) enter(ship net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.down {
		l.open[ship] = true
	}
	return !l.down
}

func (l *link) leave(ship net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, ship)
}

var errCut = errors.New("the link is cut")

// toShip writes what comes back, and takes as long as the link needs for it.
type toShip struct {
	*link
	ship net.Conn
}

func (w *toShip) Write(p []byte) (int, error) {
	if err := w.limit.WaitN(context.Background(), len(p)); err != nil {
		return 0, err
	}
	n, last := w.take(int64(len(p)))
	written, err := w.ship.Write(p[:n])
	if last {
		w.cut()
		return written, errCut
	}
	return written, err
}

// take counts up to n bytes, and returns how many of them may pass. last is
// whether the link is cut then, or is cut already.
func (l *link) take(n int64) (_ int64, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return 0, true
	}
	if l.cutAt > 0 {
		n = min(n, l.cutAt-l.came)
	}
	l.came += n
	return n, l.cutAt > 0 && l.came >= l.cutAt
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for ship := range l.open {
		ship.Close()
	}
}
