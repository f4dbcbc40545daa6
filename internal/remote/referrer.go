package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
)

// Referrers returns the manifests whose subject is d (end-12a). A registry
// that does not know the question is asked for the tag that stands in for the
// answer (section "Unavailable Referrers API" of the specification).
func (r *Registry) Referrers(ctx context.Context, repository string, d digest.Digest) ([]oci.Descriptor, error) {
	resp, err := r.do(ctx, request{
		method: http.MethodGet, path: "/referrers/" + string(d), repository: repository, scopes: reading(repository),
		header: http.Header{"Accept": {v1.MediaTypeImageIndex}},
	})
	if e := oci.AsError(err); e != nil && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusBadRequest) {
		return r.taggedReferrers(ctx, repository, d)
	}
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", d, err)
	}
	defer resp.Body.Close()
	var index v1.Index
	if err := json.NewDecoder(io.LimitReader(resp.Body, oci.MaxManifestSize)).Decode(&index); err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", d, err)
	}
	return index.Manifests, nil
}

func (r *Registry) taggedReferrers(ctx context.Context, repository string, d digest.Digest) ([]oci.Descriptor, error) {
	m, err := r.Manifest(ctx, repository, ReferrersTag(d))
	if errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", d, err)
	}
	index, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		return nil, nil // a tag that only looks like it
	}
	return index.Manifests, nil
}

// ReferrersTag is the tag under which clients keep the referrers of d at a
// registry that does not list them.
func ReferrersTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()[:min(len(d.Encoded()), 64)]
}
