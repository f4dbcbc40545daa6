package registry

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

var _ storage.Interrupter = (*body)(nil)

// A body is the body of a request. It remembers its own read error, so that this is not
// mistaken for an error of the storage that the body is written to. If a client stalls,
// the server's read deadline ends the body, which releases the upload for a retry.
type body struct {
	r           io.Reader
	conn        *http.ResponseController
	err         error // of a read, unless it was io.EOF
	interrupted atomic.Bool
}

// errInterrupted is the error of a body that a newer request has ended.
var errInterrupted = errors.New("a newer request goes on with this upload")

// newBody returns the body of a request. If it has more than limit bytes, its error is
// a [*http.MaxBytesError].
func newBody(w http.ResponseWriter, q *request, limit int64) *body {
	return &body{r: http.MaxBytesReader(w, q.Body, limit), conn: http.NewResponseController(w)}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.interrupted.Load() {
		b.err = errInterrupted
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		if b.interrupted.Load() {
			err = errInterrupted
		}
		b.err = err
	}
	return n, err
}

// Interrupt implements [storage.Interrupter]. The connection is of no use afterwards.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	_ = b.conn.SetReadDeadline(time.Unix(1, 0)) // without one, the read ends later
}

// readError returns the response to a request if err is the body's read error, and nil
// otherwise. In most cases the client is gone and does not read the response.
func (b *body) readError(err error) *oci.Error {
	switch {
	case b.err == nil || !errors.Is(err, b.err):
		return nil
	case b.err == errInterrupted:
		return oci.ErrSizeInvalid.With("%v", b.err).WithStatus(http.StatusRequestTimeout)
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return oci.ErrSizeInvalid.With("the body came too slowly").WithStatus(http.StatusRequestTimeout)
	}
	return oci.ErrSizeInvalid.With("the body ended early")
}
