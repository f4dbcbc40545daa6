package registry

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"ferry/internal/oci"
)

// stallTimeout is how long a client may send nothing of a body that it has
// begun. A connection that died in silence then frees what it holds, its
// upload above all, for the client's next try.
const stallTimeout = time.Minute

// A body is what a client sends, until it stalls. Its reader's errors are
// kept apart from those of who writes it down.
type body struct {
	r    io.Reader
	conn *http.ResponseController
	err  error // of the reader, unless it was the end
}

// newBody returns a request's body, of at most limit bytes; the error for
// more is a [*http.MaxBytesError].
func newBody(w http.ResponseWriter, q *request, limit int64) *body {
	return &body{r: http.MaxBytesReader(w, q.Body, limit), conn: http.NewResponseController(w)}
}

// Read implements io.Reader. The deadline goes with the last byte, since the
// connection may be used again; after an error it stays, or the server would
// wait for the rest of the body before it answers.
func (b *body) Read(p []byte) (int, error) {
	b.conn.SetReadDeadline(time.Now().Add(stallTimeout)) // a writer without deadlines is a test's
	n, err := b.r.Read(p)
	switch err {
	case nil:
	case io.EOF:
		b.conn.SetReadDeadline(time.Time{})
	default:
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
		return oci.ErrSizeInvalid.With("no byte of the body came for %s", stallTimeout).WithStatus(http.StatusRequestTimeout)
	}
	return oci.ErrSizeInvalid.With("the body ended early")
}
