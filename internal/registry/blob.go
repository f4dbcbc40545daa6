package registry

import (
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// errNoRange answers a Range header that is malformed or beyond the content.
var errNoRange = &oci.Error{Code: "RANGE_INVALID", Message: "the range is malformed or beyond the content",
	Status: http.StatusRequestedRangeNotSatisfiable}

// getBlob serves a blob, whole or in ranges, by sendfile where it is a file.
func (g *Registry) getBlob(w http.ResponseWriter, q *request) error {
	d := digest.Digest(q.reference)
	if q.Method == http.MethodHead {
		// A pusher asks so before it decides not to upload.
		if _, err := g.storage.StatBlob(q.Context(), q.repository, d); err != nil {
			return err
		}
	}
	content, info, err := g.storage.OpenBlob(q.Context(), q.repository, d)
	if err != nil {
		return err
	}
	defer content.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", q.reference)
	h.Set("Etag", `"`+q.reference+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	h["X-Content-Type-Options"] = noSniff
	if asked := q.Header.Get("Range"); asked != "" {
		q.Header.Set("Range", oci.CleanRange(asked))
	}
	out := &ranged{ResponseWriter: w}
	http.ServeContent(out, q.Request, "", info.Modified, content)
	if out.refused {
		return errNoRange
	}
	return nil
}

// A ranged is a ResponseWriter that holds back [http.ServeContent]'s own
// answer to a bad range, which is not in the specification's form. It keeps
// ReadFrom, or sendfile would be lost.
type ranged struct {
	http.ResponseWriter
	refused bool
}

var _ io.ReaderFrom = (*ranged)(nil)

func (r *ranged) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		r.refused = true
		return
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *ranged) Write(p []byte) (int, error) {
	if r.refused {
		return len(p), nil
	}
	return r.ResponseWriter.Write(p)
}

func (r *ranged) ReadFrom(src io.Reader) (int64, error) {
	if r.refused {
		return io.Copy(io.Discard, src)
	}
	return io.Copy(r.ResponseWriter, src) // finds the writer's own ReadFrom
}

// Unwrap is for [http.ResponseController].
func (r *ranged) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (g *Registry) deleteBlob(w http.ResponseWriter, q *request) error {
	err := g.storage.DeleteBlob(q.Context(), q.repository, digest.Digest(q.reference), g.note(q, "delete", ""))
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
