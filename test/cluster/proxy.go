package cluster

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"testing"
)

// A Proxy is a plain load balancer: it sends each request, or each connection, to the next
// process, and to the one after that if nothing listens there.
type Proxy struct {
	Host string // host:port

	hosts []string
	turn  atomic.Uint64
}

// A Mode says what a [Proxy] balances.
type Mode int

const (
	PerRequest Mode = iota
	PerConnection
)

// StartProxy starts a proxy before the hosts. It stops with the test.
func StartProxy(t testing.TB, mode Mode, hosts ...string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Host: l.Addr().String(), hosts: hosts}
	if mode == PerConnection {
		ctx, stop := context.WithCancel(context.Background())
		t.Cleanup(func() { stop(); l.Close() })
		go p.forward(ctx, l)
		return p
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = 100
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
			r.Out.Host = r.In.Host
		},
		Transport:     &balanced{p, transport},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}}
	t.Cleanup(func() { srv.Close(); transport.CloseIdleConnections() })
	go srv.Serve(l)
	return p
}

// try calls do with the hosts, beginning with the next one, until one of them accepts a
// connection.
func (p *Proxy) try(do func(host string) error) error {
	first := int(p.turn.Add(1) % uint64(len(p.hosts)))
	var err error
	for i := range p.hosts {
		err = do(p.hosts[(first+i)%len(p.hosts)])
		if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" {
			return err
		}
	}
	return err
}

// balanced sends each request to the next process.
type balanced struct {
	proxy *Proxy
	http  *http.Transport
}

func (b *balanced) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	err = b.proxy.try(func(host string) error {
		out := r.Clone(r.Context())
		out.URL.Host = host
		if r.Body != nil && r.Body != http.NoBody {
			out.Body = io.NopCloser(r.Body) // the transport closes it even if it did not connect
		}
		resp, err = b.http.RoundTrip(out)
		return err
	})
	return resp, err
}

// forward forwards connections until ctx ends.
func (p *Proxy) forward(ctx context.Context, l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			var server net.Conn
			err := p.try(func(host string) (err error) {
				server, err = (&net.Dialer{}).DialContext(ctx, "tcp", host)
				return err
			})
			if err != nil {
				return
			}
			defer server.Close()
			defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
			go func() {
				io.Copy(server, client)
				server.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(client, server)
		}()
	}
}
