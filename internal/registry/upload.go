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

// minChunk is what clients are told that a chunk should have at least, in
// bytes: each is made durable before it is answered, which takes a disk its
// time. A smaller one is accepted all the same.
const minChunk = 64 << 10

// startUpload begins an upload; or mounts a blob of another repository; or
// takes a whole blob at once.
func (g *Registry) startUpload(w http.ResponseWriter, q *request) error {
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
		return g.finish(w, q, u, whole)
	}
	describe(w, q, u)
	w.Header().Set("OCI-Chunk-Min-Length", strconv.Itoa(minChunk))
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount lets the repository have a blob of another one that the client may
// read. done is false when it has to upload the blob after all.
func (g *Registry) mount(w http.ResponseWriter, q *request, mount, from string) (done bool, err error) {
	d, err := oci.ParseDigest(mount)
	if err != nil {
		return false, err
	}
	// Without a source, to look for the blob in every repository that the
	// client may read would find it only by leave of the widest token.
	if oci.CheckRepository(from) != nil {
		return false, nil
	}
	if _, err := g.authorizer.Authorize(q.Request,
		append(q.need, auth.Access{Repository: from, Action: auth.ContentRead})...); err != nil {
		if errors.Is(err, oci.ErrDenied) {
			return false, nil
		}
		return false, err // a challenge: the client may have a token for both
	}
	mounted, err := g.storage.Mount(q.Context(), q.repository, from, d)
	if err != nil || !mounted {
		return false, err
	}
	created(w, q, d)
	return true, nil
}

// patchUpload adds a chunk.
func (g *Registry) patchUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := g.append(w, q, u); err != nil {
		return err
	}
	describe(w, q, u)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// putUpload adds the last chunk, if there is one, and makes the upload a blob.
func (g *Registry) putUpload(w http.ResponseWriter, q *request) error {
	d, err := oci.ParseDigest(q.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	defer u.Close()
	return g.finish(w, q, u, d)
}

// finish adds the body to u, all of it or none, and makes it the blob d.
func (g *Registry) finish(w http.ResponseWriter, q *request, u *storage.Upload, d digest.Digest) error {
	if err := g.append(w, q, u); err != nil {
		return err
	}
	if err := u.Commit(q.Context(), d); err != nil {
		return err
	}
	created(w, q, d)
	return nil
}

// append adds the body to u, which must be where the chunk begins, and checks
// that as much came as was announced. When it did not, what came is kept, and
// the answer says how much the upload has.
func (g *Registry) append(w http.ResponseWriter, q *request, u *storage.Upload) error {
	want, err := announced(q, u)
	if err == nil && want != 0 {
		err = receive(w, q, u, want)
	}
	if oci.AsError(err) != nil {
		describe(w, q, u)
	}
	return err
}

// announced returns how many bytes the headers say that the body has, -1
// where they do not.
func announced(q *request, u *storage.Upload) (int64, error) {
	header := q.Header.Get("Content-Range")
	if header == "" {
		return q.ContentLength, nil
	}
	start, end, err := oci.ParseUploadRange(header)
	if err != nil {
		return 0, err
	}
	if start != u.Size() {
		return 0, oci.ErrRangeInvalid.With("chunk begins at byte %d, the upload has %d", start, u.Size())
	}
	if q.ContentLength >= 0 && q.ContentLength != end-start {
		return 0, oci.ErrSizeInvalid.With("Content-Range is of %d bytes, Content-Length is %d", end-start,
			q.ContentLength)
	}
	return end - start, nil
}

// maxBlob bounds a body of unknown length, in bytes; no blob reaches it.
const maxBlob = 1 << 50

func receive(w http.ResponseWriter, q *request, u *storage.Upload, want int64) error {
	limit := want
	if want < 0 {
		limit = maxBlob
	}
	b := newBody(w, q, limit)
	n, err := u.Append(q.Context(), b)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return oci.ErrSizeInvalid.With("more than the announced %d bytes came", want)
	}
	if e := b.broke(err); e != nil {
		return e
	}
	if err == nil && want >= 0 && n != want {
		return oci.ErrSizeInvalid.With("%d bytes were announced, %d came", want, n)
	}
	return err
}

// getUpload tells how much of an upload is here.
func (g *Registry) getUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	defer u.Close()
	describe(w, q, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Registry) deleteUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	if err := u.Cancel(q.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// describe sets the headers that tell a client where its upload is and how
// far. An empty upload is "0-0": the specification has no form for it.
func describe(w http.ResponseWriter, q *request, u *storage.Upload) {
	h := w.Header()
	h.Set("Location", "/v2/"+q.repository+"/blobs/uploads/"+u.ID())
	h.Set("Docker-Upload-Uuid", u.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(u.Size()-1, 0)))
}

func created(w http.ResponseWriter, q *request, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+q.repository+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}
