package registry

import (
	"io"
	"net/http"
	"net/netip"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// errInvalidRange answers a Range header that is malformed or beyond the content.
var errInvalidRange = &oci.Error{Code: "RANGE_INVALID", Message: "the range is malformed or beyond the content",
	Status: http.StatusRequestedRangeNotSatisfiable}

// getBlob serves a blob or ranges of it. If the blob is a file, it uses sendfile. Connected
// registries receive blobs that clients may not read, and enforce the lock themselves.
func (g *Registry) getBlob(w http.ResponseWriter, q *request) error {
	d := digest.Digest(q.reference)
	if q.Method == http.MethodHead {
		// A client sends HEAD before a push, to find out whether it must upload.
		// StatBlob keeps the blob from garbage collection in the meantime.
		if _, err := g.storage.StatBlob(q.Context(), q.repository, d); err != nil {
			return err
		}
	}
	open, link := g.storage.OpenBlob, g.storage.BlobURL
	if q.grant.IsConnectedRegistry() {
		open, link = g.storage.Unlocked().OpenBlob, g.storage.Unlocked().BlobURL
	}
	if q.Method == http.MethodGet && g.isRedirected(q) {
		if url, err := link(q.Context(), q.repository, d); err != nil || url != "" {
			return redirect(w, q, url, err)
		}
	}
	content, info, err := open(q.Context(), q.repository, d)
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
	out := &rangeWriter{ResponseWriter: w}
	http.ServeContent(out, q.Request, "", info.Modified, content)
	if out.refused {
		return errInvalidRange
	}
	return nil
}

// isRedirected reports whether the client of a request, whose right to pull was checked, fetches blobs
// from the blob store itself.
func (g *Registry) isRedirected(q *request) bool {
	sender, err := netip.ParseAddr(q.grant.Sender())
	return err == nil && g.redirects != nil && g.redirects(sender)
}

// redirect answers with the URL of a blob, which is a secret for a few minutes.
func redirect(w http.ResponseWriter, q *request, url string, err error) error {
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Location", url)
	h.Set("Docker-Content-Digest", q.reference)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

// A rangeWriter is a ResponseWriter that suppresses the error response of
// [http.ServeContent] to an invalid range, which is not in the specified form. It has a
// ReadFrom method, because without it net/http would not use sendfile.
type rangeWriter struct {
	http.ResponseWriter
	refused bool
}

var _ io.ReaderFrom = (*rangeWriter)(nil)

func (r *rangeWriter) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		r.refused = true
		return
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *rangeWriter) Write(p []byte) (int, error) {
	if r.refused {
		return len(p), nil
	}
	return r.ResponseWriter.Write(p)
}

func (r *rangeWriter) ReadFrom(src io.Reader) (int64, error) {
	if r.refused {
		return io.Copy(io.Discard, src)
	}
	return io.Copy(r.ResponseWriter, src) // calls the ResponseWriter's ReadFrom
}

// Unwrap is for [http.ResponseController].
func (r *rangeWriter) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (g *Registry) deleteBlob(w http.ResponseWriter, q *request) error {
	err := g.storage.DeleteBlob(q.Context(), q.repository, digest.Digest(q.reference), g.auditNote(q, "delete", ""))
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
