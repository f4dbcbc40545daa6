package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// maxTagParameters is how many tags one push may set beside its reference.
const maxTagParameters = 10

// getManifest serves a manifest, byte for byte. This is the path of every
// pull: it is answered from memory where it can be.
func (g *Registry) getManifest(w http.ResponseWriter, q *request) error {
	m, err := g.storage.ManifestUpTo(q.Context(), q.repository, q.reference, largeManifest)
	if err != nil {
		return err
	}
	// One allocation for the values of all headers, in place of one for each.
	v := []string{string(m.Digest), `"` + string(m.Digest) + `"`, m.MediaType, strconv.FormatInt(m.Size, 10)}
	known := notModified(q.Header, v[1])
	if m.Size > largeManifest && q.Method != http.MethodHead && !known {
		var end func()
		if m, end, err = g.readLarge(q, m); err != nil {
			return err
		}
		defer end()
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
		w.Write(m.Payload) // a client that went away needs no answer
	}
	return nil
}

// noSniff is only read.
var noSniff = []string{"nosniff"}

// notModified reports whether the client has the content with the ETag (RFC
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

// putManifest stores a manifest under its reference and the tags of the query.
func (g *Registry) putManifest(w http.ResponseWriter, q *request) error {
	payload, err := g.readManifest(w, q)
	if err != nil {
		return err
	}
	end, err := claim(q.Context(), g.storing, smallManifest+manifestCost*int64(len(payload)))
	if err != nil {
		return err
	}
	defer end()
	put := storage.Put{Repository: q.repository, MediaType: q.Header.Get("Content-Type"), Payload: payload}
	tags := q.URL.Query()["tag"]
	if len(tags) > maxTagParameters {
		return oci.ErrTagInvalid.With("a push sets at most %d tags",
			maxTagParameters).WithStatus(http.StatusRequestURITooLong)
	}
	put.Tags = tags
	if oci.IsDigest(q.reference) {
		put.Digest = digest.Digest(q.reference)
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

// readManifest reads the body. One that says beforehand that it is too large
// is refused before it is sent.
func (g *Registry) readManifest(w http.ResponseWriter, q *request) ([]byte, error) {
	errTooLarge := oci.ErrTooLarge.With("manifest is larger than %d bytes", oci.MaxManifestSize)
	size := q.ContentLength
	if size > oci.MaxManifestSize {
		return nil, errTooLarge
	}
	if size < 0 {
		size = oci.MaxManifestSize
	}
	if size > smallManifest {
		end, err := claim(q.Context(), g.reading, size)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	b := newBody(w, q, oci.MaxManifestSize)
	payload := bytes.NewBuffer(make([]byte, 0, max(q.ContentLength, 0)+bytes.MinRead))
	_, err := payload.ReadFrom(b)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLarge
	}
	if e := b.broke(err); e != nil {
		return nil, e
	}
	return payload.Bytes(), err
}

// Limits on what manifests take in memory together, in bytes.
const (
	maxReading = 32 << 20 // of bodies that are being read
	maxStoring = 64 << 20 // of manifests that came, while they are looked at and stored
	// smallManifest is the size up to which a body is not counted while it is read.
	smallManifest = 64 << 10
	// largeManifest is the size from which manifests are counted while they are sent;
	// smaller ones are remembered, once for all clients.
	largeManifest = 256 << 10
	maxServing    = 12 << 20 // of large ones that are being sent
	maxLoading    = 1        // large ones that are read at a time, not bytes: each takes four times its size
	// manifestCost is what a manifest may take while it is stored, in bytes for each of
	// its bytes.
	manifestCost = 8
	// maxTurn is how long a manifest waits for others.
	maxTurn = 30 * time.Second
)

// readLarge reads a large manifest once there is memory for it, which it has until end
// is called, so that clients who read slowly do not hold any number of them.
func (g *Registry) readLarge(q *request, m *storage.Manifest) (_ *storage.Manifest, end func(), err error) {
	if end, err = claim(q.Context(), g.serving, m.Size); err != nil {
		return nil, nil, err
	}
	read, err := claim(q.Context(), g.loading, 1)
	if err == nil {
		m, err = g.storage.Manifest(q.Context(), q.repository, string(m.Digest))
		read()
	}
	if err != nil {
		end()
	}
	return m, end, err
}

// claim gives a manifest n of what room has, bytes or a place, until end is called. It
// waits for its turn.
func claim(ctx context.Context, room *semaphore.Weighted, n int64) (end func(), err error) {
	turn, cancel := context.WithTimeout(ctx, maxTurn)
	defer cancel()
	if room.Acquire(turn, n) == nil {
		return func() { room.Release(n) }, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := oci.ErrTooManyRequests.With("too many large manifests are pushed or pulled at the same time")
	return nil, &auth.ChallengeError{Err: e, RetryAfter: maxTurn}
}

// deleteManifest removes a manifest by its digest, or only a tag.
func (g *Registry) deleteManifest(w http.ResponseWriter, q *request) error {
	var err error
	if oci.IsDigest(q.reference) {
		err = g.storage.DeleteManifest(q.Context(), q.repository, digest.Digest(q.reference), g.note(q, "delete", ""))
	} else {
		err = g.storage.DeleteTag(q.Context(), q.repository, q.reference, g.note(q, "delete", ""))
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
