package replication_test

import (
	"context"
	"net"
	"net/http"

	"ferry/internal/faultnet"
)

// blobHost is the host to which a parent redirects requests for blobs.
const blobHost = "elsewhere"

// redirect makes the parent redirect requests for blobs to another host, as with an object
// store. That host is on the same network.
func (p *parent) redirect() {
	p.T.Helper()
	pipe := faultnet.NewPipe()
	gateway := p.dial
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); host == blobHost {
			return pipe.Dial(ctx, network, address)
		}
		return gateway(ctx, network, address)
	}
	p.redirectTo = "http://" + blobHost
	p.listen(pipe, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			p.T.Error("the password was sent to another host than the parent's")
		}
		p.serveBlob(w, r)
	})
}
