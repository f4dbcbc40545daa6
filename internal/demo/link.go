package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// A link is the way from the ship to the root: it passes on what the ship
// asks, and lets the bodies of the answers come back at a rate.
type link struct {
	url      string // of the root, as the ship sees it
	server   *http.Server
	limit    *rate.Limiter
	received atomic.Int64 // bytes that came back
}

// linkChunk is how many bytes pass at once: few enough for a smooth flow.
const linkChunk = 16 << 10

// newLink opens a link to root that lets perSecond bytes a second come back,
// or as many as come where that is 0.
func newLink(root string, perSecond int64) (*link, error) {
	target, err := url.Parse(root)
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	l := &link{url: "http://" + listener.Addr().String(), limit: rate.NewLimiter(rate.Inf, linkChunk)}
	if perSecond > 0 {
		l.limit.SetLimit(rate.Limit(perSecond))
	}
	l.server = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the root hands out the address at which it is asked
		},
		Transport:     &http.Transport{DisableCompression: true}, // what is counted is what the root sent
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = &pacedBody{resp.Request.Context(), resp.Body, l}
			return nil
		},
		// A root that is switched off has no answer of its own: the ship sees its connection end.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, 0),
	}}
	go l.server.Serve(listener)
	return l, nil
}

func (l *link) close() error { return l.server.Close() }

// A pacedBody is the body of an answer, which comes at the link's rate.
type pacedBody struct {
	ctx context.Context // of the request
	io.ReadCloser
	link *link
}

func (p *pacedBody) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b[:min(len(b), linkChunk)])
	p.link.received.Add(int64(n))
	if waitErr := p.link.limit.WaitN(p.ctx, n); waitErr != nil {
		return n, waitErr
	}
	return n, err
}
