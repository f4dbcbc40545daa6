package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Faults are the shares of requests to a [Store], from 0 to 1, that fail.
type Faults struct {
	Refuse float64 // answered with 503 SlowDown
	Cut    float64 // whose body, or whose answer's body, ends early
	Expire float64 // of those by links: answered as if the link had expired
}

// Links count the requests to a [Store] by links, which are signed in their URLs.
type Links struct {
	Requests, Cut, Expired int
	WithLogin              int   // that have a login in addition
	Bytes                  int64 // of their answers
}

// A faultProxy forwards requests, or makes them fail.
type faultProxy struct {
	mu     sync.Mutex
	faults Faults
	rng    *rand.Rand
	failed int
	links  Links
}

func (p *faultProxy) set(f Faults, seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.rng = f, rand.New(rand.NewPCG(seed, 0))
}

func (p *faultProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// A fault is what happens to one request. The zero value is nothing.
type fault struct {
	status int // of the answer, unless it is 0
	code   string
	cut    bool
	after  int64 // bytes of a body that is cut
}

// draw returns the fault of a request, and counts it.
func (p *faultProxy) draw(r *http.Request) (f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	isLink := r.URL.Query().Has("X-Amz-Signature")
	if isLink {
		p.links.Requests++
		if r.Header.Get("Authorization") != "" {
			p.links.WithLogin++
		}
	}
	if p.rng == nil {
		return f
	}
	switch {
	case p.rng.Float64() < p.faults.Refuse:
		f.status, f.code = http.StatusServiceUnavailable, "SlowDown"
	case isLink && p.rng.Float64() < p.faults.Expire:
		f.status, f.code = http.StatusForbidden, "AccessDenied"
		p.links.Expired++
	case p.rng.Float64() < p.faults.Cut:
		f.cut, f.after = true, p.rng.Int64N(64<<10)
		if isLink {
			p.links.Cut++
		}
	}
	if f != (fault{}) {
		p.failed++
	}
	return f
}

// start starts the proxy before target, and returns its URL.
func (p *faultProxy) start(t testing.TB, target string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = 100
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			if f := r.Request.Context().Value(faultKey{}).(fault); f.cut {
				r.Body = &cutBody{r.Body, f.after}
			}
			if r.Request.URL.Query().Has("X-Amz-Signature") {
				r.Body = &countedBody{r.Body, p}
			}
			return nil
		},
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := p.draw(r)
		if f.status != 0 {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(f.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>The test refuses it.</Message></Error>", f.code)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), faultKey{}, f))
		if f.cut {
			r.Body = &cutBody{r.Body, f.after}
		}
		forward.ServeHTTP(w, r)
	})
	t.Cleanup(func() { srv.Close(); transport.CloseIdleConnections() })
	go srv.Serve(l)
	return "http://" + l.Addr().String()
}

var errCut = errors.New("the test cut the body")

// faultKey is the key of a request's context with its [fault].
type faultKey struct{}

// cutBody is a body that ends with an error after some bytes.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errCut
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// countedBody is the body of an answer to a request by a link.
type countedBody struct {
	io.ReadCloser
	proxy *faultProxy
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.proxy.mu.Lock()
	defer b.proxy.mu.Unlock()
	b.proxy.links.Bytes += int64(n)
	return n, err
}
