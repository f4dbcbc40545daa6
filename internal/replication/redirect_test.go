package replication_test

import (
	"context"
	"net"
	"net/http"

	"ferry/internal/faultnet"
)

// elsewhere is the host at which blobs are that a parent does not send itself.
const blobHost = "elsewhere"

// redirect lets the parent say only where blobs are, as one does that has them
// in a bucket. The way there passes the same network.
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
