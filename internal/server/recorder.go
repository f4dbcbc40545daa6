package server

import (
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// The reader of an answer has writeStall for each writeChunk bytes: two kilobytes a second,
// which is slower than any usable link. A slower reader loses its connection.
const (
	writeChunk = 1 << 20
	writeStall = 10 * time.Minute
	copyBuffer = 256 << 10
)

// A recorder is a ResponseWriter that records the status and the size of an answer, and
// drops a reader that stalls. It has ReadFrom, so that the standard library can use
// sendfile, and Unwrap, so that handlers can set deadlines and flush.
type recorder struct {
	http.ResponseWriter
	stall  time.Duration
	prefix string // of paths in the headers, as the client sees them
	status int    // 0 until the header is written
	sent   int64  // bytes of the body
	buffer []byte // of [recorder.copy], once it is needed
}

var _ io.ReaderFrom = (*recorder)(nil)

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 { // the final status follows a 1xx
		r.status = status
		r.addPrefix()
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

// ReadFrom sends src in chunks. If src is a limited file, each chunk is, too, because the
// standard library uses sendfile only for a file, or for a file with one limit around it.
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
		n, err := r.copy(part)
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

// copy sends part. What is no file is copied with a large buffer: with that of [io.Copy], system calls
// take a third more processor time.
func (r *recorder) copy(part *io.LimitedReader) (int64, error) {
	if _, isFile := part.R.(*os.File); isFile || part.N <= copyBuffer {
		return io.Copy(r.ResponseWriter, part) // calls the writer's ReadFrom
	}
	if r.buffer == nil {
		r.buffer = make([]byte, copyBuffer)
	}
	return io.CopyBuffer(struct{ io.Writer }{r.ResponseWriter}, part, r.buffer)
}

// extend gives the reader time for the next chunk.
func (r *recorder) extend() { r.deadline(time.Now().Add(r.stall)) }

// done removes the deadline, which must not apply to the connection's next answer.
func (r *recorder) done() { r.deadline(time.Time{}) }

func (r *recorder) deadline(t time.Time) {
	// If this fails, there is no connection, and the next write fails, too.
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(t)
}

// Flush implements [http.Flusher].
func (r *recorder) Flush() {
	r.implicitHeader()
	_ = http.NewResponseController(r.ResponseWriter).Flush() // fails only if there is no buffer
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) implicitHeader() {
	if r.status == 0 {
		r.status = http.StatusOK
		r.addPrefix()
	}
}

// addPrefix completes the addresses in the headers, which handlers write as absolute paths.
func (r *recorder) addPrefix() {
	if r.prefix == "" {
		return
	}
	h := r.Header()
	if to := h.Get("Location"); strings.HasPrefix(to, "/") {
		h.Set("Location", r.prefix+to)
	}
	if to := h.Get("Link"); strings.HasPrefix(to, "</") {
		h.Set("Link", "<"+r.prefix+to[1:])
	}
}
