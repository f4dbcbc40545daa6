package server

import (
	"io"
	"net/http"
	"time"
)

// A sender of a body has readStall for each readChunk bytes: 17 bytes a second,
// which is less than any link that is of use. One that sends less holds its
// connection no longer than that.
const (
	readChunk = 1 << 10
	readStall = time.Minute
)

// A body is the body of a request, whose sender must go on sending.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
	came int // bytes since the deadline was set
}

// bounded gives the body of r, if it has one, a deadline that progress renews.
func bounded(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b := &body{ReadCloser: r.Body, conn: http.NewResponseController(w)}
	r.Body = b
	b.extend()
}

// Read implements [io.Reader]. The deadline ends with the body, since the connection
// may be used again, and a request may be held for long. It stays where a handler
// does not read the body: the server then does, before it answers.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.came += n; err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{})
	} else if b.came >= readChunk {
		b.extend()
	}
	return n, err
}

func (b *body) extend() {
	b.came = 0
	// If it cannot be set, the connection is gone, or is none, as the next read shows.
	_ = b.conn.SetReadDeadline(time.Now().Add(readStall))
}
