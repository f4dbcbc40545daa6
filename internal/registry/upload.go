package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// minChunk is the recommended minimum size of a chunk, in bytes, which clients are told.
// Each chunk is flushed to disk before the response, which is slow for small ones.
// Smaller chunks are accepted.
const minChunk = 64 << 10

// startUpload starts an upload. If the query asks for it, it mounts a blob of another
// repository instead, or stores the body as a whole blob.
func (g *Registry) startUpload(w http.ResponseWriter, q *request) error {
	// The transaction of the manifest checks it again; this saves the client the transfer.
	if err := g.storage.CheckWritable(q.Context(), q.repository); err != nil {
		return err
	}
	query := q.URL.Query()
	if mount := query.Get("mount"); mount != "" {
		done, err := g.mount(w, q, mount, query.Get("from"))
		if done || err != nil {
			return err
		}
	}
	if algorithm := query.Get("digest-algorithm"); algorithm != "" && algorithm != "sha256" && algorithm != "sha512" {
		return oci.ErrUnsupported.With("digest algorithm %.20q is neither sha256 nor sha512",
			algorithm).WithStatus(http.StatusBadRequest)
	}
	whole := digest.Digest(query.Get("digest"))
	if whole != "" {
		if _, err := oci.ParseDigest(string(whole)); err != nil {
			return err
		}
	}
	u, err := g.storage.StartUpload(q.Context(), q.repository)
	if err != nil {
		return err
	}
	defer u.Close()
	if whole != "" {
		return finish(w, q, u, whole)
	}
	setUploadHeaders(w, q, u.ID(), u.Size())
	w.Header().Set("OCI-Chunk-Min-Length", strconv.Itoa(minChunk))
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount links a blob into the repository from the repository from, which the client must
// be allowed to read. If done is false, the client must upload the blob.
func (g *Registry) mount(w http.ResponseWriter, q *request, mount, from string) (done bool, err error) {
	d, err := oci.ParseDigest(mount)
	if err != nil {
		return false, err
	}
	// Without a source repository, the blob is not looked for in all repositories: a
	// client's token rarely covers any other.
	if oci.CheckRepository(from) != nil {
		return false, nil
	}
	if _, err := g.authorizer.Authorize(q.Request,
		append(q.need, auth.Access{Repository: from, Action: auth.ContentRead})...); err != nil {
		if errors.Is(err, oci.ErrDenied) {
			return false, nil
		}
		return false, err // a challenge, so that the client gets a token for both repositories
	}
	mounted, err := g.storage.Mount(q.Context(), q.repository, from, d)
	if err != nil || !mounted {
		return false, err
	}
	writeCreated(w, q, d)
	return true, nil
}

// resume opens the upload of a request that adds to it. If the request says where its bytes begin, and
// an older one stalled exactly there, resume ends the older one: its client has lost it.
func (g *Registry) resume(w http.ResponseWriter, q *request) (*storage.Upload, error) {
	start, _, err := oci.ParseUploadRange(q.Header.Get("Content-Range"))
	if err != nil {
		return g.storage.ResumeUpload(q.Context(), q.repository, q.reference)
	}
	u, err := g.storage.TakeUpload(q.Context(), q.repository, q.reference,
		func(size int64) bool { return size == start })
	if stalled, ok := errors.AsType[*storage.StalledError](err); ok {
		setUploadHeaders(w, q, q.reference, stalled.Size)
		return nil, outOfOrder(start, stalled.Size)
	}
	return u, err
}

// patchUpload adds a chunk.
func (g *Registry) patchUpload(w http.ResponseWriter, q *request) error {
	u, err := g.resume(w, q)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := appendChunk(w, q, u); err != nil {
		return err
	}
	setUploadHeaders(w, q, u.ID(), u.Size())
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// putUpload adds the last chunk, if there is one, and commits the upload as a blob.
func (g *Registry) putUpload(w http.ResponseWriter, q *request) error {
	d, err := oci.ParseDigest(q.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, err := g.resume(w, q)
	if err != nil {
		return err
	}
	defer u.Close()
	return finish(w, q, u, d)
}

// finish adds the body to u and commits u as the blob d.
func finish(w http.ResponseWriter, q *request, u *storage.Upload, d digest.Digest) error {
	if err := appendChunk(w, q, u); err != nil {
		return err
	}
	if err := u.Commit(q.Context(), d); err != nil {
		return err
	}
	writeCreated(w, q, d)
	return nil
}

// appendChunk adds the body to u. The chunk must begin at the end of u, and must have the
// length that its headers declare. If the body is shorter, the received part is kept,
// and the headers of the error response have the new size of the upload.
func appendChunk(w http.ResponseWriter, q *request, u *storage.Upload) error {
	want, err := checkContentRange(q, u)
	if err == nil && want != 0 {
		err = appendBody(w, q, u, want)
	}
	if oci.AsError(err) != nil {
		setUploadHeaders(w, q, u.ID(), u.Size())
	}
	return err
}

// checkContentRange returns an error unless the chunk's Content-Range, if it has one, begins at the
// end of u. It returns the length of the body according to its headers, in bytes; -1 if they do not
// have it.
func checkContentRange(q *request, u *storage.Upload) (int64, error) {
	header := q.Header.Get("Content-Range")
	if header == "" {
		return q.ContentLength, nil
	}
	start, end, err := oci.ParseUploadRange(header)
	if err != nil {
		return 0, err
	}
	if start != u.Size() {
		return 0, outOfOrder(start, u.Size())
	}
	if q.ContentLength >= 0 && q.ContentLength != end-start {
		return 0, oci.ErrSizeInvalid.With("Content-Range has %d bytes, but Content-Length is %d", end-start,
			q.ContentLength)
	}
	return end - start, nil
}

func outOfOrder(start, size int64) error {
	return oci.ErrRangeInvalid.With("the chunk begins at byte %d, but the upload has %d bytes", start, size)
}

// maxBlob limits a body of unknown length, in bytes. No blob is as large.
const maxBlob = 1 << 50

// appendBody adds the body, of want bytes if that is not negative, to u.
func appendBody(w http.ResponseWriter, q *request, u *storage.Upload, want int64) error {
	limit := want
	if want < 0 {
		limit = maxBlob
	}
	b := newBody(w, q, limit)
	n, err := u.Append(q.Context(), b)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return oci.ErrSizeInvalid.With("the body has more than the declared %d bytes", want)
	}
	if e := b.readError(err); e != nil {
		return e
	}
	if err == nil && want >= 0 && n != want {
		return oci.ErrSizeInvalid.With("the body has %[2]d bytes instead of the declared %[1]d", want, n)
	}
	return err
}

// getUpload returns how much of an upload has been received. Another request that has stalled goes on.
func (g *Registry) getUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.TakeUpload(q.Context(), q.repository, q.reference, func(int64) bool { return false })
	if stalled, ok := errors.AsType[*storage.StalledError](err); ok {
		setUploadHeaders(w, q, q.reference, stalled.Size)
	} else if err != nil {
		return err
	} else {
		setUploadHeaders(w, q, u.ID(), u.Size())
		defer u.Close()
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteUpload cancels an upload, and ends another request that has stalled on it.
func (g *Registry) deleteUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.TakeUpload(q.Context(), q.repository, q.reference, func(int64) bool { return true })
	if err != nil {
		return err
	}
	if err := u.Cancel(q.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setUploadHeaders sets the headers with the location and the size of an upload. The
// range of an empty upload is "0-0", because the specification has no form for it.
func setUploadHeaders(w http.ResponseWriter, q *request, id string, size int64) {
	h := w.Header()
	h.Set("Location", "/v2/"+q.repository+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-Uuid", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
}

// writeCreated writes the response for a new blob.
func writeCreated(w http.ResponseWriter, q *request, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+q.repository+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}
