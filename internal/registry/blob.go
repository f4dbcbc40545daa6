package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"
)

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
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, q.Request, "", info.Modified, content)
	return nil
}

func (g *Registry) deleteBlob(w http.ResponseWriter, q *request) error {
	if err := g.storage.DeleteBlob(q.Context(), q.repository, digest.Digest(q.reference)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
