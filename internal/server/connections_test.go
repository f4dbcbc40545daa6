package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ferry/internal/config"
	"ferry/internal/telemetry"
)

// A queue is a listener that returns the connections and errors of the test.
type queue chan any

func (q queue) Accept() (net.Conn, error) {
	switch v := (<-q).(type) {
	case net.Conn:
		return v, nil
	case error:
		return nil, v
	}
	return nil, net.ErrClosed
}
func (q queue) Close() error   { return nil }
func (q queue) Addr() net.Addr { return &net.TCPAddr{} }

// A from is a connection from an address. It records that it was closed.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(f.addr), 7))
}

func (f *from) Close() error {
	f.closed = true
	return nil
}

func TestConnectionsAreLimitedInTotalAndBySender(t *testing.T) {
	trusted, err := config.ParseProxies("10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	q := make(queue, 100)
	l := newBoundedListener(q, newQuota(4, trusted), slog.New(slog.NewTextHandler(&log, nil)))
	accepted := map[string][]net.Conn{}
	accept := func(addresses ...string) (refused int) {
		t.Helper()
		var sent []*from
		for _, a := range addresses {
			f := &from{addr: a}
			sent = append(sent, f)
			q <- f
		}
		q <- net.ErrClosed
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			a := c.RemoteAddr().(*net.TCPAddr).IP.String()
			accepted[a] = append(accepted[a], c)
		}
		for _, f := range sent {
			if f.closed {
				refused++
			}
		}
		return refused
	}
	if n := accept("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"); n != 2 {
		t.Errorf("%d of 4 of one sender are refused", n)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "sender=192.0.2.1") {
		t.Errorf("log: %s", &log)
	}
	if n := accept("192.0.2.2", "192.0.2.3", "192.0.2.4"); n != 1 {
		t.Errorf("%d of 3 of other sources are refused", n)
	}
	accepted["192.0.2.1"][0].Close()
	accepted["192.0.2.1"][0].Close() // counts once
	if n := accept("192.0.2.4", "192.0.2.4"); n != 1 {
		t.Errorf("after one was closed %d of 2 are refused", n)
	}
	for _, all := range accepted {
		for _, c := range all {
			c.Close()
		}
	}
	if n := accept("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1"); n != 1 {
		t.Errorf("%d of 5 of a trusted proxy are refused", n)
	}
	for _, c := range accepted["10.0.0.1"] {
		c.Close()
	}
	if l.quota.all != 0 || len(l.quota.by) != 0 {
		t.Errorf("%d are counted of none: %v", l.quota.all, l.quota.by)
	}
	if n := accept("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"); n != 1 {
		t.Errorf("%d of 3 of one IPv6 network, and one of another, are refused", n)
	}
}

func TestFailedAcceptsAreLoggedAsErrors(t *testing.T) {
	var log bytes.Buffer
	q := make(queue, 10)
	l := newBoundedListener(q, newQuota(4, nil), slog.New(slog.NewTextHandler(&log, nil)))
	q <- syscall.EMFILE
	q <- syscall.EMFILE
	q <- net.ErrClosed
	for _, want := range []error{syscall.EMFILE, syscall.EMFILE, net.ErrClosed} {
		if _, err := l.Accept(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if strings.Count(log.String(), "level=ERROR") != 1 || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("log: %s", &log)
	}
}

func TestCountedConnectionsKeepSendfile(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBoundedListener(inner, newQuota(4, nil), slog.New(slog.DiscardHandler))
	defer l.Close()
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Errorf("a %T reads no file", c)
	}
	if _, ok := c.(syscall.Conn); !ok {
		t.Errorf("a %T has no file of its own", c)
	}
}

func TestConnectionLimitReservesFilesForTheDatabase(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		set       int
		connected bool
		want      int
	}{{0, true, connectedConnections}, {0, false, rootConnections}, {100, true, 100}, {1 << 30, false, 1 << 30}} {
		got := maxConnections(config.Config{MaxConnections: test.set}, test.connected)
		if got > test.want || uint64(got) >= files.Cur || got < min(test.want, int(files.Cur/2)) {
			t.Errorf("%d, connected %t: %d of %d files", test.set, test.connected, got, files.Cur)
		}
	}
}

func TestRequestsAreLimitedLikeConnections(t *testing.T) {
	var log bytes.Buffer
	held, release := make(chan bool), make(chan bool)
	m := newMiddleware(always(func(http.ResponseWriter, *http.Request) {
		held <- true
		<-release
	}), slog.New(slog.NewTextHandler(&log, nil)), telemetry.NewMetrics())
	m.quota = newQuota(4, nil)
	ask := func(source string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = source + ":7"
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		return w.Code
	}
	done := make(chan int, 2)
	for range 2 {
		go func() { done <- ask("192.0.2.1") }()
		<-held
	}
	if status := ask("192.0.2.1"); status != http.StatusServiceUnavailable ||
		!strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the third of one sender: %d, log: %s", status, &log)
	}
	go func() { done <- ask("192.0.2.2") }()
	<-held
	close(release)
	for range 3 {
		if status := <-done; status != http.StatusOK {
			t.Errorf("one within the limit: %d", status)
		}
	}
}
