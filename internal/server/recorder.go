package server

import (
	"io"
	"net/http"
	"time"
)

// A reader of an answer gets writeChunk bytes at a time, and has writeStall
// for each: two kilobytes a second, less than any link that is of use. One
// that takes nothing holds its connection no longer than that.
const (
	writeChunk = 1 << 20
	writeStall = 10 * time.Minute
)

// A recorder is a ResponseWriter that remembers what was answered, and drops
// a reader who stalls. It keeps ReadFrom, through which the standard library
// sends files with sendfile, and Unwrap, through which handlers reach
// deadlines and flushing.
type recorder struct {
	http.ResponseWriter
	stall  time.Duration
	status int   // 0 until the header is written
	sent   int64 // bytes of the body
}

var _ io.ReaderFrom = (*recorder)(nil)

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 { // 1xx are followed by the real one
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (written int, err error) {
	r.implicitHeader()
	for first := true; first || err == nil && len(p) > 0; first = false {
		r.extend()
		var n int
		n, err = r.ResponseWriter.Write(p[:min(len(p), writeChunk)])
		written += n
		p = p[n:]
	}
	r.sent += int64(written)
	return written, err
}

// ReadFrom sends what src has. Of a part of a file it sends parts, for the
// standard library uses sendfile for a file, or one limit around a file.
func (r *recorder) ReadFrom(src io.Reader) (sent int64, err error) {
	r.implicitHeader()
	part, whole := &io.LimitedReader{R: src}, (*io.LimitedReader)(nil)
	if l, ok := src.(*io.LimitedReader); ok {
		part.R, whole = l.R, l
	}
	for {
		part.N = writeChunk
		if whole != nil {
			part.N = min(part.N, whole.N)
		}
		r.extend()
		n, err := io.Copy(r.ResponseWriter, part) // finds the writer's own ReadFrom
		sent += n
		r.sent += n
		if whole != nil {
			whole.N -= n
		}
		if err != nil || part.N > 0 || whole != nil && whole.N <= 0 { // failed, or src has no more
			return sent, err
		}
	}
}

// extend gives the reader time for the next chunk.
func (r *recorder) extend() { r.deadline(time.Now().Add(r.stall)) }

// done lets the connection's next answer begin without a deadline.
func (r *recorder) done() { r.deadline(time.Time{}) }

func (r *recorder) deadline(t time.Time) {
	// If it cannot be set, the connection is gone, or is none, as the next write shows.
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(t)
}

// Flush serves handlers that ask for an http.Flusher.
func (r *recorder) Flush() {
	r.implicitHeader()
	_ = http.NewResponseController(r.ResponseWriter).Flush() // a writer that cannot has no buffer to flush
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) implicitHeader() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
}
