package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// Content provides the blobs and manifests of an image.
type Content interface {
	// Open opens a blob or a manifest.
	Open(d digest.Digest) (io.ReadCloser, error)
}

// maxDepth is how deep indexes may be nested.
const maxDepth = 8

// Push copies the image with the descriptor root, and everything below it, into
// repository, and then sets tag. It skips blobs that the registry already has. It calls
// sent, which may be nil, with the number of bytes that it sent since the last call.
func (r *Registry) Push(
	ctx context.Context, repository, tag string, root oci.Descriptor, from Content, sent func(n int),
) error {
	if sent == nil {
		sent = func(int) {}
	}
	return r.push(ctx, pushJob{repository, from, sent, func(int64) {}}, root, tag, 0)
}

type pushJob struct {
	repository string
	from       Content
	sent       func(n int)
	present    func(n int64) // is called with the size of a blob that the registry has
}

func (r *Registry) push(ctx context.Context, p pushJob, d oci.Descriptor, reference string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("push %s: indexes are nested more than %d levels deep", d.Digest, maxDepth)
	}
	payload, m, err := ReadManifest(p.from, d)
	if err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := r.push(ctx, p, child, string(child.Digest), depth+1); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs() {
		err := r.pushBlob(ctx, p, blob)
		if oci.MayBeAbsent(blob) && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return r.PutManifest(ctx, p.repository, reference, m.MediaType, payload)
}

func (r *Registry) pushBlob(ctx context.Context, p pushJob, blob oci.Descriptor) error {
	has, err := r.HasBlob(ctx, p.repository, blob.Digest)
	if has {
		p.present(blob.Size)
	}
	if err != nil || has {
		return err
	}
	f, err := p.from.Open(blob.Digest)
	if err != nil {
		return fmt.Errorf("push %s: %w", blob.Digest, err)
	}
	defer f.Close()
	return r.PutBlob(ctx, p.repository, blob.Digest, blob.Size, &countingReader{f, p.sent})
}

// ReadManifest reads and parses a manifest. Its content must match the digest of its
// descriptor.
func ReadManifest(from Content, d oci.Descriptor) ([]byte, *oci.Manifest, error) {
	f, err := from.Open(d.Digest)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	defer f.Close()
	payload, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	if d.Digest.Algorithm().FromBytes(payload) != d.Digest {
		return nil, nil, fmt.Errorf("read manifest %s: its content does not match its digest", d.Digest)
	}
	m, err := oci.ParseManifest(d.MediaType, payload)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	return payload, m, nil
}

// A countingReader calls sent with the number of bytes of each read.
type countingReader struct {
	io.Reader
	sent func(n int)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.sent(n)
	return n, err
}
