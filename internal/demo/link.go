package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// A link is the way from the ship to the shore: it passes on what the ship
// asks, at a rate, and counts the bytes that come back.
type link struct {
	listener net.Listener
	shore    string // host:port
	limit    *rate.Limiter
	received atomic.Int64
	ending   context.CancelFunc
	running  sync.WaitGroup
}

// linkChunk is how many bytes pass at once: few enough for a smooth flow.
const linkChunk = 16 << 10

// newLink opens a link to shore that lets perSecond bytes a second come back,
// or as many as come where that is 0.
func newLink(shore string, perSecond int64) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	limit := rate.NewLimiter(rate.Inf, linkChunk)
	if perSecond > 0 {
		limit.SetLimit(rate.Limit(perSecond))
	}
	l := &link{listener: listener, shore: shore, limit: limit}
	ctx, cancel := context.WithCancel(context.Background())
	l.ending = cancel
	l.running.Go(func() { l.accept(ctx) })
	return l, nil
}

// url is where the shore seems to be, from aboard.
func (l *link) url() string { return "http://" + l.listener.Addr().String() }

func (l *link) close() {
	l.ending()
	l.listener.Close()
	l.running.Wait()
}

func (l *link) accept(ctx context.Context) {
	for {
		ship, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.pass(ctx, ship) })
	}
}

// pass carries one connection until either end has had enough.
func (l *link) pass(ctx context.Context, ship net.Conn) {
	defer ship.Close()
	shore, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.shore)
	if err != nil {
		return // as a shore that is gone: the ship sees its connection end
	}
	defer shore.Close()
	defer context.AfterFunc(ctx, func() { ship.Close(); shore.Close() })()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(shore, ship)
		closeWrite(shore)
	})
	both.Go(func() {
		io.Copy(ship, &pacedReader{ctx, shore, l})
		closeWrite(ship)
	})
	both.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// A pacedReader reads from the shore at the link's rate.
type pacedReader struct {
	ctx   context.Context // of the link's life
	shore io.Reader
	link  *link
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.shore.Read(b[:min(len(b), linkChunk)])
	if waitErr := p.link.limit.WaitN(p.ctx, n); waitErr != nil {
		return 0, errors.Join(err, waitErr)
	}
	p.link.received.Add(int64(n))
	return n, err
}
