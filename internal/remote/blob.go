package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// Blob opens length bytes of a blob from offset on; if length is negative, all bytes to
// its end. The second result is the offset at which the body begins: offset, or 0 if
// the registry does not support ranges. The caller must verify the digest once it has
// the whole blob.
func (r *Registry) Blob(
	ctx context.Context, repository string, d digest.Digest, offset, length int64,
) (io.ReadCloser, int64, error) {
	q := request{method: http.MethodGet, repository: repository, path: "/blobs/" + string(d)}
	if offset > 0 || length >= 0 {
		span := fmt.Sprintf("bytes=%d-", offset)
		if length >= 0 {
			span += strconv.FormatInt(offset+length-1, 10)
		}
		q.header = http.Header{"Range": {span}}
	}
	resp, err := r.do(ctx, q)
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, notFoundAs(err, oci.ErrBlobUnknown))
	}
	if resp.StatusCode != http.StatusPartialContent {
		return resp.Body, 0, nil
	}
	start, _, err := oci.ParseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		resp.Body.Close()
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	return resp.Body, start, nil
}

// HasBlob reports whether the registry has a blob in repository.
func (r *Registry) HasBlob(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	resp, err := r.do(ctx, request{method: http.MethodHead, repository: repository, path: "/blobs/" + string(d)})
	if err := notFoundAs(err, oci.ErrBlobUnknown); errors.Is(err, oci.ErrBlobUnknown) ||
		errors.Is(err, oci.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob %s: %w", d, err)
	}
	drain(resp.Body)
	return true, nil
}

// PutBlob uploads a blob of size bytes into repository, in two requests: one starts the
// upload (end-4a of the specification), the other sends the content (end-6).
func (r *Registry) PutBlob(
	ctx context.Context, repository string, d digest.Digest, size int64, content io.Reader,
) error {
	resp, err := r.do(ctx, request{method: http.MethodPost, repository: repository, path: "/blobs/uploads/"})
	if err != nil {
		return fmt.Errorf("open upload of %s: %w", d, err)
	}
	drain(resp.Body)
	location, err := resp.Location() // elsewhere than at the registry, it gets no login
	if err != nil {
		return fmt.Errorf("open upload of %s: %w", d, err)
	}
	query := location.Query()
	query.Set("digest", string(d))
	location.RawQuery = query.Encode()
	q := request{
		method: http.MethodPut, repository: repository, body: content, size: size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	}
	if resp, err = r.send(ctx, q, location); err != nil {
		return fmt.Errorf("upload %s: %w", d, err)
	}
	drain(resp.Body)
	return nil
}
