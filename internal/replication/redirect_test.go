package replication_test

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ferry/internal/faultnet"
	"ferry/internal/replication"
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

// TestExpiredLinksAreRenewedWithinATransfer has links to another host of which every third ends in the
// middle, and every third has expired.
func TestExpiredLinksAreRenewedWithinATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		p.redirect()
		const size = 4 << 20
		p.image("app", [][]byte{randomBytes(1, size)}, "v1")
		var given, used, refused atomic.Int64
		p.intercept = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Host != blobHost {
				if r.Method == http.MethodGet && r.URL.Path[:4] == "/v2/" {
					given.Add(1)
				}
				next.ServeHTTP(w, r)
				return
			}
			switch used.Add(1) % 3 {
			case 1:
				next.ServeHTTP(&abortingWriter{w, 200 << 10}, r)
			case 2:
				refused.Add(1)
				http.Error(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
					http.StatusForbidden)
			default:
				next.ServeHTTP(w, r)
			}
		}
		r := newReplica(t, p, replication.Options{ChunkSize: 512 << 10})
		r.follow()
		result := r.sync()
		assertInSync(t, p, r.Storage)
		if refused.Load() < 2 || used.Load() != given.Load() {
			t.Errorf("%d links were given, %d used, and %d had expired", given.Load(), used.Load(), refused.Load())
		}
		if result.Received > size+1000 {
			t.Errorf("%d bytes were received, want about %d", result.Received, size)
		}
	})
}

// An abortingWriter ends the connection after some bytes.
type abortingWriter struct {
	http.ResponseWriter
	left int
}

func (a *abortingWriter) Write(p []byte) (int, error) {
	if len(p) > a.left {
		panic(http.ErrAbortHandler)
	}
	a.left -= len(p)
	return a.ResponseWriter.Write(p)
}
