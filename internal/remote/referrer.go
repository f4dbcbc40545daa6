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

// maxReferrers is how many referrers one manifest may have.
const maxReferrers = 10_000

// Referrers are what a registry says of the manifests that have one as their
// subject.
type Referrers struct {
	Digests []digest.Digest
	Listed  bool  // the registry listed them, so these are all
	Problem error // why it did not, if it is not that it has no such end-point
}

// Referrers returns the manifests whose subject is d (end-12a). A registry that
// does not list referrers is asked for the tag in which clients list them
// (section "Unavailable Referrers API" of the specification). Both are optional,
// and registries and proxies answer in many ways what they do not have, so an
// answer that is of no use is no error, but a problem of the result.
func (r *Registry) Referrers(ctx context.Context, repository string, d digest.Digest) (Referrers, error) {
	all, err := r.listedReferrers(ctx, repository, d)
	if err == nil {
		return Referrers{Digests: all, Listed: true}, nil
	}
	problem := fmt.Errorf("list referrers of %s: %w", d, err)
	if !isOdd(err) {
		return Referrers{}, problem
	}
	switch retry.Status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented:
		problem = nil
	}
	all, err = r.taggedReferrers(ctx, repository, d)
	if err != nil {
		err = fmt.Errorf("list referrers of %s: %w", d, err)
		if !isOdd(err) {
			return Referrers{}, err
		}
		problem = cmp.Or(problem, err)
	}
	return Referrers{Digests: all, Problem: problem}, nil
}

// isOdd reports whether the registry answered with something of no use. That is
// not so if the link broke, or if the registry wants to be asked again later.
func isOdd(err error) bool {
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
	}, list[entry]{
		member: "manifests", most: maxReferrers, element: oci.MaxManifestSize,
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
		return nil, nil // a tag that only looks like it
	}
	var all []digest.Digest
	for _, m := range index.Manifests {
		all = append(all, m.Digest)
	}
	return all, nil
}

// ReferrersTag is the tag under which clients keep the referrers of d at a
// registry that does not list them.
func ReferrersTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()[:min(len(d.Encoded()), 64)]
}
