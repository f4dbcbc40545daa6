package registry

import (
	"errors"
	"io"
	"net/http"
	"os"

	"ferry/internal/oci"
)

// A body is the body of a request. It remembers its own read error, so that this is not
// mistaken for an error of the storage that the body is written to. If a client stalls,
// the server's read deadline ends the body, which releases the upload for a retry.
type body struct {
	r   io.Reader
	err error // of a read, unless it was io.EOF
}

// newBody returns the body of a request. If it has more than limit bytes, its error is
// a [*http.MaxBytesError].
func newBody(w http.ResponseWriter, q *request, limit int64) *body {
	return &body{r: http.MaxBytesReader(w, q.Body, limit)}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// readError returns the response to a request if err is the body's read error, and nil
// otherwise. In most cases the client is gone and does not read the response.
func (b *body) readError(err error) *oci.Error {
	switch {
	case b.err == nil || !errors.Is(err, b.err):
		return nil
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return oci.ErrSizeInvalid.With("the body came too slowly").WithStatus(http.StatusRequestTimeout)
	}
	return oci.ErrSizeInvalid.With("the body ended early")
}
