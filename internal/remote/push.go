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

// Content is where the blobs and manifests of an image are read from.
type Content interface {
	// Open opens a blob or a manifest.
	Open(d digest.Digest) (io.ReadCloser, error)
}

// maxDepth bounds how deep indexes hold indexes.
const maxDepth = 8

// Push copies the image that root describes, and everything below it, into
// repository, and then sets tag to it; blobs that are there already are not
// sent. sent, which may be nil, is called with the number of bytes of each read.
func (r *Registry) Push(
	ctx context.Context, repository, tag string, root oci.Descriptor, from Content, sent func(n int),
) error {
	if sent == nil {
		sent = func(int) {}
	}
	return r.push(ctx, pushing{repository, from, sent}, root, tag, 0)
}

type pushing struct {
	repository string
	from       Content
	sent       func(n int)
}

func (r *Registry) push(ctx context.Context, p pushing, d oci.Descriptor, reference string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("push %s: indexes are more than %d deep", d.Digest, maxDepth)
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

func (r *Registry) pushBlob(ctx context.Context, p pushing, blob oci.Descriptor) error {
	has, err := r.HasBlob(ctx, p.repository, blob.Digest)
	if err != nil || has {
		return err
	}
	f, err := p.from.Open(blob.Digest)
	if err != nil {
		return fmt.Errorf("push %s: %w", blob.Digest, err)
	}
	defer f.Close()
	return r.PutBlob(ctx, p.repository, blob.Digest, blob.Size, &counting{f, p.sent})
}

// ReadManifest reads and parses a manifest, whose content must have its descriptor's digest.
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
		return nil, nil, fmt.Errorf("read manifest %s: its content is something else", d.Digest)
	}
	m, err := oci.ParseManifest(d.MediaType, payload)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	return payload, m, nil
}

// counting calls sent for everything that is read.
type counting struct {
	io.Reader
	sent func(n int)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.sent(n)
	return n, err
}
