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

// accept are the media types that are asked for, as clients do: a registry
// may answer another with a conversion.
var accept = strings.Join([]string{
	oci.MediaTypeImageManifest, oci.MediaTypeImageIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList,
}, ", ")

// Manifest reads the manifest that reference, a tag or a digest, names. The
// payload is what its digest says, and the digest the one that was asked for.
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
	if m.Digest, err = expected(resp, reference, m.Payload); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", reference, err)
	}
	if got := m.Digest.Algorithm().FromBytes(m.Payload); got != m.Digest {
		return nil, fmt.Errorf("read manifest %s: the content is %s, not %s", reference, got, m.Digest)
	}
	m.MediaType = mediaTypeOf(resp.Header.Get("Content-Type"), m.Payload)
	return m, nil
}

// mediaTypeOf returns the media type of a manifest: what the registry says or,
// where it says only something general such as application/json or text/plain,
// what the manifest says itself.
func mediaTypeOf(said string, payload []byte) string {
	if t, _, err := mime.ParseMediaType(said); err == nil && oci.IsManifest(t) {
		return t
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(payload, &m) == nil && oci.IsManifest(m.MediaType) {
		return m.MediaType
	}
	return said
}

// expected returns the digest that the payload must have: the reference, else
// what the registry says, else the payload's own.
func expected(resp *http.Response, reference string, payload []byte) (digest.Digest, error) {
	if oci.IsDigest(reference) {
		return oci.ParseDigest(reference)
	}
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" {
		return oci.ParseDigest(said)
	}
	return digest.FromBytes(payload), nil
}

// Resolve returns the digest that reference has at the registry. The manifest is
// read only if the registry does not say its digest without that.
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

// headRefused reports whether the status of a HEAD may be of HEAD alone: proxies
// and registries that do not allow it answer with one of these.
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
		header: http.Header{"Accept": {accept}},
	})
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", reference, unknown(err, oci.ErrManifestUnknown))
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
