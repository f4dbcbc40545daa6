package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

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
		return oci.ErrUnsupported.With("digest algorithm %.20q is neither sha256 nor sha512", algorithm)
	}
	whole := query.Get("digest")
	if whole != "" {
		if _, err := oci.ParseDigest(whole); err != nil {
			return err
		}
	}
	u, err := g.storage.StartUpload(q.Context(), q.repository)
	if err != nil {
		return err
	}
	defer u.Close()
	if whole == "" {
		describe(w, q, u)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if _, err := g.append(w, q, u); err != nil {
		return err
	}
	return g.commit(w, q, u, digest.Digest(whole))
}

// mount lets the repository have a blob of another one that the client may
// read. done is false when it has to upload the blob after all.
func (g *Registry) mount(w http.ResponseWriter, q *request, mount, from string) (done bool, err error) {
	d, err := oci.ParseDigest(mount)
	if err != nil {
		return false, err
	}
	if from == "" || oci.CheckRepository(from) != nil {
		return false, nil
	}
	if !q.grant.AllowsRepository(from, auth.ContentRead) {
		return false, nil
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
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.upload)
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := g.append(w, q, u); err != nil {
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
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.upload)
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := g.append(w, q, u); err != nil {
		return err
	}
	return g.commit(w, q, u, d)
}

// append adds the body to u, which must be where the chunk begins, and checks
// that as much came as was announced.
func (g *Registry) append(w http.ResponseWriter, q *request, u *storage.Upload) (int64, error) {
	want := q.ContentLength // -1 where it is not known
	if header := q.Header.Get("Content-Range"); header != "" {
		start, end, err := oci.ParseUploadRange(header)
		if err != nil {
			return 0, err
		}
		if start != u.Size() {
			describe(w, q, u)
			return 0, oci.ErrRangeInvalid.With("chunk begins at byte %d, the upload has %d", start, u.Size())
		}
		if want >= 0 && want != end-start {
			return 0, oci.ErrSizeInvalid.With("Content-Range is of %d bytes, Content-Length is %d", end-start, want)
		}
		want = end - start
	}
	n, err := u.Append(q.Context(), http.MaxBytesReader(w, q.Body, limitOf(want)))
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return n, oci.ErrSizeInvalid.With("more than the announced %d bytes came", want)
		}
		return n, err
	}
	if want >= 0 && n != want {
		return n, oci.ErrSizeInvalid.With("%d bytes were announced, %d came", want, n)
	}
	return n, nil
}

// limitOf is how much of a body is read: what was announced, or a bound that
// no blob reaches.
func limitOf(announced int64) int64 {
	const most = 1 << 50
	if announced >= 0 {
		return announced
	}
	return most
}

func (g *Registry) commit(w http.ResponseWriter, q *request, u *storage.Upload, d digest.Digest) error {
	if err := u.Commit(q.Context(), d); err != nil {
		return err
	}
	created(w, q, d)
	return nil
}

// getUpload tells how much of an upload is here.
func (g *Registry) getUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.upload)
	if err != nil {
		return err
	}
	defer u.Close()
	describe(w, q, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Registry) deleteUpload(w http.ResponseWriter, q *request) error {
	u, err := g.storage.ResumeUpload(q.Context(), q.repository, q.upload)
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
	h.Set("Location", "/v2/"+q.repository+"/blobs/uploads/"+url.PathEscape(u.ID()))
	h.Set("Docker-Upload-Uuid", u.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(u.Size()-1, 0)))
	h.Set("Content-Length", strconv.Itoa(0))
}

func created(w http.ResponseWriter, q *request, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+q.repository+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}
