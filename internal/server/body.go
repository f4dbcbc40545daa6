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

// A body is the body of a request, whose sender must go on sending. Only the time
// that reads wait for the sender counts, not that in which the handler stores what
// came. No handler sets a deadline of its own, which would replace this one.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
	came int           // bytes of the present chunk
	left time.Duration // for which reads may still wait for the rest of it
}

// bounded gives the body of r, if it has one, a deadline that progress renews.
func bounded(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b := &body{ReadCloser: r.Body, conn: http.NewResponseController(w), left: readStall}
	r.Body = b
	b.setDeadline(time.Now().Add(b.left))
}

// Read implements [io.Reader]. The deadline ends with the body, since the connection
// may be used again, and a request may be held for long. It stays where a handler
// does not read the body: the server then does, before it answers.
func (b *body) Read(p []byte) (int, error) {
	start := time.Now()
	b.setDeadline(start.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	b.left -= time.Since(start)
	if b.came += n; err == io.EOF {
		b.setDeadline(time.Time{})
	} else if b.came >= readChunk {
		b.came, b.left = 0, readStall
	}
	return n, err
}

// setDeadline sets when reads end; zero is never.
func (b *body) setDeadline(t time.Time) {
	// If it cannot be set, the connection is gone, or is none, as the next read shows.
	_ = b.conn.SetReadDeadline(t)
}
