package server

import (
	"io"
	"net/http"
)

// A recorder is a ResponseWriter that remembers what was answered. It keeps
// ReadFrom, through which the standard library sends files with sendfile, and
// Unwrap, through which handlers reach deadlines and flushing.
type recorder struct {
	http.ResponseWriter
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

func (r *recorder) Write(p []byte) (int, error) {
	r.implicitHeader()
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.implicitHeader()
	n, err := io.Copy(r.ResponseWriter, src) // finds the writer's own ReadFrom
	r.sent += n
	return n, err
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
