package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/memlimit"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// maxTagParameters is how many tags a push may set in addition to its reference.
const maxTagParameters = 10

// getManifest serves a manifest, byte for byte. Every pull calls it, so storage answers
// from a cache if it can.
func (g *Registry) getManifest(w http.ResponseWriter, q *request) error {
	m, err := g.storage.Manifest(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	// One allocation for the values of all headers instead of one for each.
	v := []string{string(m.Digest), `"` + string(m.Digest) + `"`, m.MediaType, strconv.FormatInt(m.Size, 10)}
	known := notModified(q.Header, v[1])
	if m.Payload == nil && q.Method != http.MethodHead && !known {
		return g.sendLarge(w, q, m)
	}
	h := w.Header()
	h["Docker-Content-Digest"] = v[0:1:1]
	h["Etag"] = v[1:2:2]
	if known {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"] = v[2:3:3]
	h["Content-Length"] = v[3:4:4]
	h["X-Content-Type-Options"] = noSniff
	if q.Method != http.MethodHead {
		w.Write(m.Payload) // an error means that the client is gone
		g.pulled(q.repository, m.Digest)
	}
	return nil
}

// sendLarge sends a manifest to the client while it reads it, chunk by chunk. It sends the
// last chunk only if the content has its digest. Else it cuts the answer off.
func (g *Registry) sendLarge(w http.ResponseWriter, q *request, m *storage.Manifest) error {
	release, err := acquire(q.Context(), g.sending, sendingCost)
	if err != nil {
		return err
	}
	defer release()
	payload := g.storage.OpenPayload(m)
	chunk, err := payload.Next(q.Context())
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Docker-Content-Digest", string(m.Digest))
	h.Set("Etag", `"`+string(m.Digest)+`"`)
	h.Set("Content-Type", m.MediaType)
	h.Set("Content-Length", strconv.FormatInt(m.Size, 10))
	h["X-Content-Type-Options"] = noSniff
	for err == nil {
		if _, err = w.Write(chunk); err != nil {
			return nil // a client that went away needs no answer
		}
		chunk, err = payload.Next(q.Context())
	}
	if err == io.EOF {
		g.pulled(q.repository, m.Digest)
		return nil
	}
	if q.Context().Err() == nil {
		g.log.Error("manifest is cut off", "repo", q.repository, "digest", m.Digest, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// noSniff is a header value. It is never modified.
var noSniff = []string{"nosniff"}

// notModified reports whether the client already has the content with the ETag (RFC
// 9110, section 13.1.2).
func notModified(h http.Header, etag string) bool {
	for _, header := range h["If-None-Match"] {
		for tag := range strings.SplitSeq(header, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}

// putManifest stores a manifest under its reference and the tags in the query.
func (g *Registry) putManifest(w http.ResponseWriter, q *request) error {
	payload, end, err := g.readManifest(w, q)
	if err != nil {
		return err
	}
	defer end()
	release, err := acquire(q.Context(), g.storing, smallManifest+storeFactor*int64(len(payload)))
	if err != nil {
		return err
	}
	defer release()
	put := storage.Put{Repository: q.repository, MediaType: q.Header.Get("Content-Type"), Payload: payload}
	tags := q.URL.Query()["tag"]
	if len(tags) > maxTagParameters {
		return oci.ErrTagInvalid.With("a push sets at most %d tags",
			maxTagParameters).WithStatus(http.StatusRequestURITooLong)
	}
	put.Tags = tags
	if oci.IsDigest(q.reference) {
		put.Digest = digest.Digest(q.reference)
		put.Pending = len(tags) == 0 && q.Header.Get(wire.HeaderChangeFollows) != ""
	} else {
		put.Tags = append([]string{q.reference}, tags...)
	}
	m, err := g.storage.PutManifest(q.Context(), put)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Location", "/v2/"+q.repository+"/manifests/"+string(m.Digest))
	h.Set("Docker-Content-Digest", string(m.Digest))
	if m.Subject != "" {
		h.Set("OCI-Subject", string(m.Subject))
	}
	for _, tag := range tags {
		h.Add("OCI-Tag", tag)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// readManifest reads the body, whose memory stays reserved until the caller calls end. It
// refuses a body that is too large by its Content-Length before the client sends it.
func (g *Registry) readManifest(w http.ResponseWriter, q *request) (_ []byte, end func(), err error) {
	errTooLarge := oci.ErrTooLarge.With("manifest is larger than %d bytes", oci.MaxManifestSize)
	size := q.ContentLength
	if size > oci.MaxManifestSize {
		return nil, nil, errTooLarge
	}
	if size < 0 {
		size = oci.MaxManifestSize
	}
	end = func() {}
	if size > smallManifest {
		if end, err = acquire(q.Context(), g.receiving, size); err != nil {
			return nil, nil, err
		}
	}
	b := newBody(w, q, oci.MaxManifestSize)
	payload := bytes.NewBuffer(make([]byte, 0, max(q.ContentLength, 0)+bytes.MinRead))
	_, err = payload.ReadFrom(b)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = errTooLarge
	} else if e := b.readError(err); e != nil {
		err = e
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return payload.Bytes(), end, nil
}

// Limits on the memory of all manifests together, in bytes.
const (
	maxReceiving = 8 << 20  // bodies that clients are sending, until they are stored
	maxStoring   = 33 << 20 // manifests that are being parsed and stored
	maxSending   = 1 << 20  // large manifests that are being sent to clients
	// smallManifest is the size up to which a body does not count towards maxReceiving.
	smallManifest = 64 << 10
	// storeFactor is how much memory parsing and storing a manifest may take, as a
	// multiple of its size.
	storeFactor = 8
	// sendingCost is how much memory a large manifest takes while it is being sent: the
	// chunks that are read and written. All clients share the cached copy of a smaller one.
	sendingCost = 2 * metadb.ChunkSize
)

// maxWait is how long a manifest waits for memory.
const maxWait = 30 * time.Second

// acquire takes memory for a manifest from a pool, until the caller calls release.
func acquire(ctx context.Context, pool *memlimit.Pool, bytes int64) (release func(), err error) {
	release, err = pool.Acquire(ctx, bytes)
	if errors.Is(err, memlimit.ErrBusy) {
		e := oci.ErrTooManyRequests.With("too many large manifests are pushed or pulled at the same time")
		return nil, &auth.ChallengeError{Err: e, RetryAfter: maxWait}
	}
	return release, err
}

// deleteManifest deletes a manifest if the reference is a digest, or only a tag.
func (g *Registry) deleteManifest(w http.ResponseWriter, q *request) error {
	var err error
	if oci.IsDigest(q.reference) {
		err = g.storage.DeleteManifest(q.Context(), q.repository, digest.Digest(q.reference),
			g.auditNote(q, "delete", ""))
	} else {
		err = g.storage.DeleteTag(q.Context(), q.repository, q.reference, g.auditNote(q, "delete", ""))
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
