package server

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// The sender of a body has readStall for each readChunk bytes: 17 bytes a second, which is
// slower than any usable link. A slower sender loses its connection.
const (
	readChunk = 1 << 10
	readStall = time.Minute
)

// A body is the body of a request. Its sender must make progress. The time counts while a
// read waits for the sender, but not while the handler stores the bytes. A handler must
// not set a read deadline of its own, because that would replace this one, except one that ends the body.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
	all  atomic.Int64  // bytes that were read; a handler may still read in another goroutine
	came int           // bytes of the present chunk
	left time.Duration // how long reads may still wait for the rest of the chunk
}

// bounded replaces the body of r, if it has one, with a [body]. received returns how many bytes
// were read.
func bounded(w http.ResponseWriter, r *http.Request) (received func() int64) {
	if r.Body == nil || r.Body == http.NoBody {
		return func() int64 { return 0 }
	}
	b := &body{ReadCloser: r.Body, conn: http.NewResponseController(w), left: readStall}
	r.Body = b
	b.setDeadline(time.Now().Add(b.left))
	return b.all.Load
}

// Read implements [io.Reader]. At the end of the body it removes the deadline, because the
// connection may be used again, and a poll may be held for long. If the handler does not
// read the body, the deadline stays, because the server reads the body before it answers.
func (b *body) Read(p []byte) (int, error) {
	start := time.Now()
	b.setDeadline(start.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	b.all.Add(int64(n))
	b.left -= time.Since(start)
	if b.came += n; err == io.EOF {
		b.setDeadline(time.Time{})
	} else if b.came >= readChunk {
		b.came, b.left = 0, readStall
	}
	return n, err
}

// setDeadline sets the time at which reads fail; zero is never.
func (b *body) setDeadline(t time.Time) {
	// If this fails, there is no connection, and the next read fails, too.
	_ = b.conn.SetReadDeadline(t)
}
