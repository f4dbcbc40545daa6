package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/retry"
)

// maxReferrers is the maximum number of referrers of one manifest.
const maxReferrers = 10_000

// Referrers is a registry's answer about the referrers of a manifest: the manifests that
// have it as their subject.
type Referrers struct {
	Digests []digest.Digest
	Listed  bool  // the registry listed them, so Digests is complete
	Problem error // why it did not; nil also if it has no such endpoint
}

// Referrers returns the manifests that have d as their subject (end-12a). If the
// registry does not list referrers, it reads the tag in which clients list them
// instead (section "Unavailable Referrers API" of the specification). Both are
// optional, and registries and proxies without them answer in many ways. Therefore an
// unusable answer is not an error, but the Problem of the result.
func (r *Registry) Referrers(ctx context.Context, repository string, d digest.Digest) (Referrers, error) {
	all, err := r.listedReferrers(ctx, repository, d)
	if err == nil {
		return Referrers{Digests: all, Listed: true}, nil
	}
	problem := fmt.Errorf("list referrers of %s: %w", d, err)
	if !isUnusable(err) {
		return Referrers{}, problem
	}
	switch retry.Status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented:
		problem = nil
	}
	all, err = r.taggedReferrers(ctx, repository, d)
	if err != nil {
		err = fmt.Errorf("list referrers of %s: %w", d, err)
		if !isUnusable(err) {
			return Referrers{}, err
		}
		problem = cmp.Or(problem, err)
	}
	return Referrers{Digests: all, Problem: problem}, nil
}

// isUnusable reports whether the registry answered, and the answer is of no use. It is
// false if the link broke, or if the registry asks for a later retry.
func isUnusable(err error) bool {
	if errors.As(err, &malformedError{}) {
		return true
	}
	switch retry.Status(err) {
	case 0:
		return errors.As(err, new(*outbound.RefusedError))
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return retry.After(err) == 0
}

func (r *Registry) listedReferrers(ctx context.Context, repository string, d digest.Digest) ([]digest.Digest, error) {
	known := map[digest.Digest]bool{}
	var all []digest.Digest
	type entry struct {
		Digest digest.Digest `json:"digest"`
	}
	err := readPages(ctx, r, request{
		method: http.MethodGet, repository: repository, path: "/referrers/" + string(d),
		header: http.Header{"Accept": {v1.MediaTypeImageIndex}},
	}, pagedList[entry]{
		member: "manifests", max: maxReferrers, elementSize: oci.MaxManifestSize,
		add: func(e entry) bool {
			if _, err := oci.ParseDigest(string(e.Digest)); err != nil || known[e.Digest] {
				return false
			}
			known[e.Digest] = true
			all = append(all, e.Digest)
			return true
		},
	})
	return all, err
}

func (r *Registry) taggedReferrers(ctx context.Context, repository string, d digest.Digest) ([]digest.Digest, error) {
	m, err := r.Manifest(ctx, repository, ReferrersTag(d))
	if errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		return nil, nil // the tag only looks like a list of referrers
	}
	var all []digest.Digest
	for _, m := range index.Manifests {
		all = append(all, m.Digest)
	}
	return all, nil
}

// ReferrersTag is the tag in which clients list the referrers of d at a registry that
// does not list them itself.
func ReferrersTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()[:min(len(d.Encoded()), 64)]
}
