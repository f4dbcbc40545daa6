package registry

import (
	"errors"
	"io"
	"net/http"
	"os"

	"ferry/internal/oci"
)

// A body is what a client sends. Its reader's errors are kept apart from those
// of the storage that it is written to. The server's deadline ends the body of a
// client that stalls, which frees its upload for the client's next try.
type body struct {
	r   io.Reader
	err error // of the reader, unless it was the end
}

// newBody returns a request's body, of at most limit bytes; the error for
// more is a [*http.MaxBytesError].
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

// broke returns what to tell the client when err came of its body, else nil.
// Nearly always the client is gone, and nobody reads it.
func (b *body) broke(err error) *oci.Error {
	switch {
	case b.err == nil || !errors.Is(err, b.err):
		return nil
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return oci.ErrSizeInvalid.With("the body came too slowly").WithStatus(http.StatusRequestTimeout)
	}
	return oci.ErrSizeInvalid.With("the body ended early")
}
