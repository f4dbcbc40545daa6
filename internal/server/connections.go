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

// The default limits on connections. A connected registry has little memory, and each
// connection takes some 20 KiB, and its header up to 32 KiB more.
const (
	rootConnections      = 16 << 10
	connectedConnections = 512
)

// refusalLogInterval is the least time between two log lines about refused connections.
const refusalLogInterval = 10 * time.Second

// maxConnections returns the limit on connections: the setting, or less if the process may
// not open enough files. Some of those are reserved for the database and for blobs.
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

// A quota limits the number of connections or requests at a time. One sender may have half
// of them, so that a single sender cannot shut out all others.
type quota struct {
	mu     sync.Mutex
	limit  int
	exempt proxies // addresses without a limit of their own, because they stand for many senders
	all    int
	by     map[netip.Addr]int
}

func newQuota(limit int, exempt proxies) *quota {
	return &quota{limit: limit, exempt: exempt, by: map[netip.Addr]int{}}
}

// configure replaces the limit and the exempt addresses. It ends nothing.
func (q *quota) configure(limit int, exempt proxies) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit, q.exempt = limit, exempt
}

// most returns the limit.
func (q *quota) most() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit
}

// acquire counts one more, until [quota.release]. If that is too many, it returns the reason.
func (q *quota) acquire(from netip.Addr) (refusal string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.all >= q.limit:
		return "there are too many"
	case q.by[from] >= max(q.limit/2, 1) && !q.exempt.trust(from):
		return "there are too many from this sender"
	}
	q.all++
	q.by[from]++
	return ""
}

func (q *quota) release(from netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all--
	if q.by[from]--; q.by[from] == 0 {
		delete(q.by, from)
	}
}

// A boundedListener accepts connections within a quota. It closes any other, and logs that.
type boundedListener struct {
	net.Listener
	quota       *quota
	log         *slog.Logger
	refusalLogs *rate.Limiter
}

func newBoundedListener(l net.Listener, q *quota, log *slog.Logger) *boundedListener {
	return &boundedListener{l, q, log, newRefusalLogLimit()}
}

func newRefusalLogLimit() *rate.Limiter { return rate.NewLimiter(rate.Every(refusalLogInterval), 1) }

// hintQuota is the hint for a quota that is too small.
const hintQuota = "raise --max-connections; a proxy in front belongs in --trusted-proxies"

// Accept implements [net.Listener].
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && l.refusalLogs.Allow() {
				l.log.Error("connections cannot be accepted", "err", err)
			}
			return nil, err
		}
		from := senderOf(c.RemoteAddr().String())
		if refusal := l.quota.acquire(from); refusal != "" {
			c.Close()
			if l.refusalLogs.Allow() {
				l.log.Error("connection is refused", "sender", from, "err", refusal, "most", l.quota.most(), "hint",
					hintQuota)
			}
			continue
		}
		release := sync.OnceFunc(func() { l.quota.release(from) })
		if tcp, ok := c.(*net.TCPConn); ok {
			return &tcpConn{tcp, release}, nil
		}
		return &otherConn{c, release}, nil
	}
}

// senderOf returns the sender of an address with a port; see [auth.SenderOf]. It returns
// the zero value if the address is malformed.
func senderOf(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	return auth.SenderOf(ap.Addr())
}

// A tcpConn is a connection that counts in a quota. It has the methods of
// [net.TCPConn], because the standard library sends files with one of them.
type tcpConn struct {
	*net.TCPConn
	release func()
}

// Close implements [net.Conn].
func (c *tcpConn) Close() error {
	c.release()
	return c.TCPConn.Close()
}

// An otherConn is a connection that counts in a quota and is not TCP.
type otherConn struct {
	net.Conn
	release func()
}

// Close implements [net.Conn].
func (c *otherConn) Close() error {
	c.release()
	return c.Conn.Close()
}
