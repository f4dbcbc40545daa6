package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/retry"
)

// A Manifest is a manifest or an index, byte for byte.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Payload   []byte
}

// acceptedTypes are the media types in the Accept header. Without them, a registry may
// convert the manifest into another format.
var acceptedTypes = strings.Join([]string{
	oci.MediaTypeImageManifest, oci.MediaTypeImageIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList,
}, ", ")

// Manifest reads the manifest with the given reference, a tag or a digest. The payload
// matches its digest, which is the requested one if the reference is a digest.
func (r *Registry) Manifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	resp, err := r.manifest(ctx, http.MethodGet, repository, reference)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	m := &Manifest{}
	m.Payload, err = io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", reference, err)
	}
	if len(m.Payload) > oci.MaxManifestSize {
		return nil, fmt.Errorf("read manifest %s: %w", reference, oci.ErrTooLarge)
	}
	if m.Digest, err = expectedDigest(resp, reference, m.Payload); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", reference, err)
	}
	if got := m.Digest.Algorithm().FromBytes(m.Payload); got != m.Digest {
		return nil, fmt.Errorf("read manifest %s: the content is %s, not %s", reference, got, m.Digest)
	}
	m.MediaType = mediaTypeOf(resp.Header.Get("Content-Type"), m.Payload)
	return m, nil
}

// mediaTypeOf returns the media type of a manifest: that of its Content-Type header or,
// if that is something general such as application/json or text/plain, that in the
// manifest itself.
func mediaTypeOf(contentType string, payload []byte) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil && oci.IsManifest(t) {
		return t
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(payload, &m) == nil && oci.IsManifest(m.MediaType) {
		return m.MediaType
	}
	return contentType
}

// expectedDigest returns the digest that the payload must have: the reference if it is
// a digest, else that of the response header, else the payload's own.
func expectedDigest(resp *http.Response, reference string, payload []byte) (digest.Digest, error) {
	if oci.IsDigest(reference) {
		return oci.ParseDigest(reference)
	}
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" {
		return oci.ParseDigest(said)
	}
	return digest.FromBytes(payload), nil
}

// Resolve returns the digest of the manifest with the given reference. It reads the
// manifest only if a HEAD request does not give its digest.
func (r *Registry) Resolve(ctx context.Context, repository, reference string) (digest.Digest, error) {
	resp, err := r.manifest(ctx, http.MethodHead, repository, reference)
	if err == nil {
		drain(resp.Body)
		if said := resp.Header.Get("Docker-Content-Digest"); said != "" {
			return oci.ParseDigest(said)
		}
	} else if !headRefused(retry.Status(err)) {
		return "", err
	}
	m, err := r.Manifest(ctx, repository, reference)
	if err != nil {
		return "", err
	}
	return m.Digest, nil
}

// headRefused reports whether a registry, or a proxy, may have answered with this status
// only because it does not allow HEAD.
func headRefused(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusNotImplemented:
		return true
	}
	return false
}

func (r *Registry) manifest(ctx context.Context, method, repository, reference string) (*http.Response, error) {
	resp, err := r.do(ctx, request{
		method: method, repository: repository, path: "/manifests/" + reference,
		header: http.Header{"Accept": {acceptedTypes}},
	})
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", reference, notFoundAs(err, oci.ErrManifestUnknown))
	}
	return resp, nil
}

// PutManifest stores a manifest under reference, a tag or its digest.
func (r *Registry) PutManifest(ctx context.Context, repository, reference, mediaType string, payload []byte) error {
	resp, err := r.do(ctx, request{
		method: http.MethodPut, repository: repository, path: "/manifests/" + reference,
		header: http.Header{"Content-Type": {mediaType}}, body: bytes.NewReader(payload), size: int64(len(payload)),
	})
	if err != nil {
		return fmt.Errorf("put manifest %s: %w", reference, err)
	}
	drain(resp.Body)
	return nil
}
