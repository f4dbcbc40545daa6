package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/telemetry"
	"ferry/internal/tlsca"
)

// A client2 is a client that speaks HTTP/2, and the middleware of its server.
type client2 struct {
	*http.Client
	m     *middleware
	dials *atomic.Int32
}

// inMemory2 runs test in a bubble of testing/synctest, with a server around a handler, TLS,
// and an HTTP/2 client. stop makes the server drain.
func inMemory2(t *testing.T, h http.HandlerFunc, test func(t *testing.T, s client2, stop func() error)) {
	t.Helper()
	authority, err := tlsca.Open(tlsca.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Names: func() []string { return []string{"x"} }})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Bundle())
	now := time.Now() // the bubble has another time
	synctest.Test(t, func(t *testing.T) {
		l := &memoryListener{queue: make(queue), closed: make(chan struct{})}
		log := slog.New(slog.DiscardHandler)
		s := client2{m: newMiddleware(always(h), log, telemetry.NewMetrics()), dials: new(atomic.Int32)}
		srv := newHTTPServer(s.m, log)
		transport := &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots, Time: func() time.Time { return now }},
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				s.dials.Add(1)
				return l.dial()
			},
		}
		s.Client = &http.Client{Transport: transport}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- serveThenDrain(ctx, srv, withTLS(l, authority), log, func() time.Duration { return 0 })
		}()
		stopped := false
		stop := func() error {
			if stopped {
				return nil
			}
			stopped = true
			cancel()
			return <-done
		}
		test(t, s, stop)
		transport.CloseIdleConnections()
		if err := stop(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour) // until all timers have ended
	})
}

// A memoryListener accepts connections within the process, until it is closed.
type memoryListener struct {
	queue
	closed chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	close(l.closed)
	return nil
}

func (l *memoryListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.queue <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// do makes a request, and returns the status and the body of the answer.
func (s client2) do(t *testing.T, method string, body io.Reader) (status int, text string) {
	r, err := http.NewRequest(method, "https://x/", body)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := s.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("the answer has %s", resp.Proto)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(b)
}

func TestStalledStreamEndsAloneOnItsConnection(t *testing.T) {
	inMemory2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			time.Sleep(time.Hour) // a long answer
			return
		}
		echo(w, r)
	}, func(t *testing.T, s client2, _ func() error) {
		long := make(chan int)
		go func() {
			status, _ := s.do(t, http.MethodGet, nil)
			long <- status
		}()
		synctest.Wait()
		body, sender := io.Pipe()
		go sender.Write([]byte("x"))
		start := time.Now()
		status, _ := s.do(t, http.MethodPost, body)
		if took := time.Since(start); status != http.StatusRequestTimeout || took != readStall {
			t.Errorf("the stalled stream: %d after %v", status, took)
		}
		if status := <-long; status != http.StatusOK || s.dials.Load() != 1 {
			t.Errorf("the other stream: %d, over %d connections", status, s.dials.Load())
		}
	})
}

func TestSlowUploadOverHTTP2Succeeds(t *testing.T) {
	inMemory2(t, echo, func(t *testing.T, s client2, _ func() error) {
		body, sender := io.Pipe()
		go func() {
			for range 300 {
				time.Sleep(time.Second)
				_, _ = sender.Write(make([]byte, 2048))
			}
			sender.Close()
		}()
		if status, text := s.do(t, http.MethodPatch, body); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
	})
}

// onLoopback2 serves a handler with TLS on loopback, and returns an HTTP/2 client of it that
// has connected once.
func onLoopback2(t *testing.T, h http.HandlerFunc) (s client2, url string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	authority, err := tlsca.Open(tlsca.Options{Dir: t.TempDir(), Log: log,
		Names: func() []string { return []string{"127.0.0.1"} }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Bundle())
	s = client2{m: newMiddleware(always(h), log, telemetry.NewMetrics()), dials: new(atomic.Int32)}
	srv := newHTTPServer(s.m, log)
	go srv.Serve(withTLS(l, authority))
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			s.dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	s.Client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
	})
	url = "https://" + l.Addr().String()
	resp, err := s.Head(url)
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	return s, url
}

// at makes n requests at the same time, and returns the statuses of their answers.
func (s client2) at(t *testing.T, url string, n int) <-chan int {
	answers := make(chan int, n)
	for range n {
		go func() {
			resp, err := s.Get(url)
			if err != nil {
				t.Error(err)
				answers <- 0
				return
			}
			resp.Body.Close()
			answers <- resp.StatusCode
		}()
	}
	return answers
}

func TestStreamsOfOneConnectionCountAsRequests(t *testing.T) {
	release := make(chan struct{})
	s, url := onLoopback2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			<-release
		}
	})
	s.m.quota = newQuota(20, nil)
	answers, count := s.at(t, url, 30), map[int]int{}
	for range 20 { // those that are refused are answered at once
		count[<-answers]++
	}
	close(release)
	for range 10 {
		count[<-answers]++
	}
	if count[200] != 10 || count[503] != 20 || s.dials.Load() != 1 {
		t.Errorf("%v, over %d connections", count, s.dials.Load())
	}
}

func TestStreamsOfOneConnectionAreBounded(t *testing.T) {
	release, begun := make(chan struct{}), make(chan string, 3*maxStreams)
	s, url := onLoopback2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			begun <- r.RemoteAddr
			<-release
		}
	})
	answers, streams := s.at(t, url, cap(begun)), map[string]int{}
	for range cap(begun) { // the client opens another connection when one is full
		streams[<-begun]++
	}
	for from, n := range streams {
		if n > maxStreams {
			t.Errorf("%d streams on the connection from %s", n, from)
		}
	}
	close(release)
	for range cap(begun) {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("%d", status)
		}
	}
}

func TestLargeHeaderOverHTTP2IsRefused(t *testing.T) {
	s, url := onLoopback2(t, echo)
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 4*maxHeaderBytes))
	if resp, err := s.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d", resp.StatusCode)
		}
	}
}

func TestRunningStreamsFinishWhenTheInstanceDrains(t *testing.T) {
	inMemory2(t, func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			_, _ = io.WriteString(w, "part ")
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
	}, func(t *testing.T, s client2, stop func() error) {
		answer := make(chan string)
		go func() {
			_, text := s.do(t, http.MethodGet, nil)
			answer <- text
		}()
		time.Sleep(2500 * time.Millisecond)
		ended := make(chan error)
		go func() { ended <- stop() }()
		if text := <-answer; text != strings.Repeat("part ", 10) {
			t.Errorf("the answer is %q", text)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if status, _ := s.do(t, http.MethodGet, nil); status != 0 {
			t.Errorf("a request after that: %d", status)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inMemory2(t, echo, func(t *testing.T, s client2, _ func() error) {
		s.do(t, http.MethodGet, nil)
		time.Sleep(idleTimeout - time.Second)
		s.do(t, http.MethodGet, nil)
		if n := s.dials.Load(); n != 1 {
			t.Errorf("%d connections within the time", n)
		}
		time.Sleep(idleTimeout + 2*time.Second)
		s.do(t, http.MethodGet, nil)
		if n := s.dials.Load(); n != 2 {
			t.Errorf("%d connections after the time", n)
		}
	})
}

func TestSlowHeaderEndsItsConnection(t *testing.T) {
	inMemory(t, echo, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		go func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: " + strings.Repeat("x", 100)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		start := time.Now()
		_, _ = io.Copy(new(bytes.Buffer), c)
		if took := time.Since(start); took < readHeaderTimeout || took > readHeaderTimeout+2*time.Second {
			t.Errorf("the connection is held for %v", took)
		}
	})
}

func TestStopIsDelayedUntilLoadBalancersNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryListener{queue: make(queue), closed: make(chan struct{})}
		log := slog.New(slog.DiscardHandler)
		ready := &readiness{check: func(context.Context) error { return nil }}
		srv := newHTTPServer(ready, log)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() {
			done <- serveThenDrain(ctx, srv, l, log, func() time.Duration {
				ready.draining.Store(true)
				return 5 * time.Second
			})
		}()
		status := func() int {
			client, err := l.dial()
			if err != nil {
				return 0
			}
			defer client.Close()
			go io.WriteString(client, "GET / HTTP/1.0\r\n\r\n")
			code, _ := answered(client)
			return code
		}
		if got := status(); got != http.StatusOK {
			t.Errorf("before: %d", got)
		}
		stop()
		time.Sleep(4 * time.Second)
		if got := status(); got != http.StatusServiceUnavailable {
			t.Errorf("while it is delayed: %d", got)
		}
		if err := <-done; err != nil || time.Since(start) < 5*time.Second {
			t.Errorf("it ended after %v: %v", time.Since(start), err)
		}
	})
}
