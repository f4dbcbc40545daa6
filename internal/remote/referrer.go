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

// Referrers returns the manifests whose subject is d (end-12a). A registry that
// does not list referrers is asked for the tag in which clients list them
// (section "Unavailable Referrers API" of the specification); listed is false
// then.
func (r *Registry) Referrers(
	ctx context.Context, repository string, d digest.Digest,
) (all []oci.Descriptor, listed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("list referrers of %s: %w", d, err)
		}
	}()
	resp, err := r.do(ctx, request{
		method: http.MethodGet, repository: repository, path: "/referrers/" + string(d),
		header: http.Header{"Accept": {v1.MediaTypeImageIndex}},
	})
	if e := oci.AsError(err); e != nil {
		switch e.Status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest:
			all, err = r.taggedReferrers(ctx, repository, d)
			return all, false, err
		}
	}
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	var index v1.Index
	err = json.NewDecoder(io.LimitReader(resp.Body, oci.MaxManifestSize)).Decode(&index)
	return index.Manifests, true, err
}

func (r *Registry) taggedReferrers(ctx context.Context, repository string, d digest.Digest) ([]oci.Descriptor, error) {
	m, err := r.Manifest(ctx, repository, ReferrersTag(d))
	if errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
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
