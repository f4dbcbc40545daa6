package demo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/remote"
)

// pull reads c from a registry as a client does, by its tag, with every
// manifest and blob of it, and holds every byte to the digests of what was
// packed. It returns how many bytes came.
func pull(ctx context.Context, from *remote.Registry, c *cargo) (bytes int64, err error) {
	m, err := from.Manifest(ctx, c.repository, c.tag)
	if err != nil {
		return 0, err
	}
	if m.Digest != c.root.Digest {
		return 0, fmt.Errorf("%s is %s here, not %s", c.name(), m.Digest, c.root.Digest)
	}
	p := &pulling{ctx, from, c.repository, map[digest.Digest]bool{m.Digest: true}, int64(len(m.Payload))}
	if err := p.below(m); err != nil {
		return 0, err
	}
	if want := c.size(); p.bytes != want {
		return 0, fmt.Errorf("%s is %d bytes here, not %d", c.name(), p.bytes, want)
	}
	return p.bytes, nil
}

type pulling struct {
	ctx        context.Context // of this one pull
	from       *remote.Registry
	repository string
	seen       map[digest.Digest]bool
	bytes      int64
}

// below pulls what a manifest refers to.
func (p *pulling) below(m *remote.Manifest) error {
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		return err
	}
	for _, child := range parsed.Manifests {
		if !p.first(child.Digest) {
			continue
		}
		m, err := p.from.Manifest(p.ctx, p.repository, string(child.Digest)) // verifies the digest
		if err != nil {
			return err
		}
		p.bytes += int64(len(m.Payload))
		if err := p.below(m); err != nil {
			return err
		}
	}
	for _, blob := range parsed.Blobs() {
		if !p.first(blob.Digest) {
			continue
		}
		if err := p.blob(blob); err != nil {
			return err
		}
	}
	return nil
}

func (p *pulling) first(d digest.Digest) bool {
	seen := p.seen[d]
	p.seen[d] = true
	return !seen
}

func (p *pulling) blob(d oci.Descriptor) error {
	body, _, err := p.from.Blob(p.ctx, p.repository, d.Digest, 0, -1)
	if err != nil {
		return err
	}
	hash := d.Digest.Algorithm().Hash()
	n, err := io.Copy(hash, body)
	if err := errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read blob %s: %w", d.Digest, err)
	}
	if got := digest.NewDigest(d.Digest.Algorithm(), hash); got != d.Digest {
		return fmt.Errorf("blob %s has the content of %s", d.Digest, got)
	}
	p.bytes += n
	return nil
}
