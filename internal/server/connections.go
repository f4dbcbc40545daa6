package server

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/auth"
	"ferry/internal/config"
)

// Connections that an instance accepts, unless its settings say otherwise. A
// connected registry has little memory, and each connection takes some 20 KiB, and
// its header up to 32 more.
const (
	rootConnections      = 16 << 10
	connectedConnections = 512
)

// complaintEvery is how often the log says that connections are refused, or that
// none can be accepted.
const complaintEvery = 10 * time.Second

// maxConnections returns how many connections an instance has at most: as its
// settings say, and no more than leave some of the files that it may open to the
// database and to blobs.
func maxConnections(cfg config.Config, connected bool) int {
	n := cfg.MaxConnections
	if n == 0 {
		n = rootConnections
		if connected {
			n = connectedConnections
		}
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		spare := max(files.Cur/8, min(files.Cur/2, 256))
		n = int(min(uint64(n), files.Cur-spare))
	}
	return n
}

// A quota bounds how many of something there are at a time: in all, and of one source
// up to half of that, so that no single sender shuts the others out.
type quota struct {
	most   int
	exempt proxies // what comes from these is many senders'

	mu  sync.Mutex
	all int
	by  map[netip.Addr]int
}

func newQuota(most int, exempt proxies) *quota {
	return &quota{most: most, exempt: exempt, by: map[netip.Addr]int{}}
}

// take counts one more, which has to be given back, or returns why it is refused.
func (q *quota) take(from netip.Addr) (refusal string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.all >= q.most:
		return "there are too many"
	case q.by[from] >= max(q.most/2, 1) && !q.exempt.trust(from):
		return "there are too many of this source"
	}
	q.all++
	q.by[from]++
	return ""
}

func (q *quota) give(from netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all--
	if q.by[from]--; q.by[from] == 0 {
		delete(q.by, from)
	}
}

// A boundedListener accepts connections within a quota. It closes those beyond, and
// says so in the log.
type boundedListener struct {
	net.Listener
	quota      *quota
	log        *slog.Logger
	complaints *rate.Limiter
}

func newBoundedListener(l net.Listener, q *quota, log *slog.Logger) *boundedListener {
	return &boundedListener{l, q, log, newComplaints()}
}

func newComplaints() *rate.Limiter { return rate.NewLimiter(rate.Every(complaintEvery), 1) }

// hintQuota is what to do where a quota refuses what it should not.
const hintQuota = "raise --max-connections; a proxy in front belongs in --trusted-proxies"

// Accept implements [net.Listener].
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && l.complaints.Allow() {
				l.log.Error("connections cannot be accepted", "err", err)
			}
			return nil, err
		}
		from := sourceOf(c.RemoteAddr().String())
		if refusal := l.quota.take(from); refusal != "" {
			c.Close()
			if l.complaints.Allow() {
				l.log.Error("connection is refused", "source", from, "err", refusal, "most", l.quota.most, "hint",
					hintQuota)
			}
			continue
		}
		release := sync.OnceFunc(func() { l.quota.give(from) })
		if tcp, ok := c.(*net.TCPConn); ok {
			return &tcpConn{tcp, release}, nil
		}
		return &otherConn{c, release}, nil
	}
}

// sourceOf is the sender of an address with a port, as [auth.SenderOf] counts it; the
// zero value if it is no address.
func sourceOf(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	return auth.SenderOf(ap.Addr())
}

// A tcpConn is a connection that is counted. It keeps the methods with which the
// standard library sends files.
type tcpConn struct {
	*net.TCPConn
	release func()
}

// Close implements [net.Conn].
func (c *tcpConn) Close() error {
	c.release()
	return c.TCPConn.Close()
}

// An otherConn is a tcpConn of another network.
type otherConn struct {
	net.Conn
	release func()
}

// Close implements [net.Conn].
func (c *otherConn) Close() error {
	c.release()
	return c.Conn.Close()
}
