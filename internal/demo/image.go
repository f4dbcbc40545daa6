package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/layout"
	"ferry/internal/oci"
	"ferry/internal/remote"
)

// An image is one that is to cross.
type image struct {
	name            string // repository:tag
	repository, tag string
	from            *layout.Layout
	root            oci.Descriptor
	parts           map[digest.Digest]oci.Descriptor // its manifests and blobs
	layers          int
	size            int64 // in bytes, of all its parts
	fresh           int64 // of those that no image before it has
}

// notInName are the characters that no repository's name has.
var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// open lets an image of the layout in dir cross after those that were opened
// before it. The repository is named after dir, and "" is the layout's only image.
func (d *demo) open(dir, tag string) error {
	l, err := layout.Open(dir)
	if err != nil {
		return err
	}
	root, err := l.Resolve(tag)
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tag = cmp.Or(tag, "latest")
	if err := oci.CheckTag(tag); err != nil {
		return err
	}
	base := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(absolute)), "-"), "-")
	repository := "demo/" + cmp.Or(base, "image")
	i := &image{
		name: repository + ":" + tag, repository: repository, tag: tag, from: l, root: root,
		parts: map[digest.Digest]oci.Descriptor{},
	}
	for _, other := range d.images {
		if other.name == i.name {
			return fmt.Errorf("two images would be %s: give their tags or directories different names", i.name)
		}
	}
	if err := i.survey(root); err != nil {
		return fmt.Errorf("read image %s: %w", i.name, err)
	}
	for _, part := range i.parts {
		i.size += part.Size
		if !d.known[part.Digest] {
			i.fresh += part.Size
		}
		d.known[part.Digest] = true
	}
	d.images = append(d.images, i)
	return nil
}

// survey notes a manifest and all below it.
func (i *image) survey(d oci.Descriptor) error {
	if _, seen := i.parts[d.Digest]; seen {
		return nil
	}
	i.parts[d.Digest] = d
	_, m, err := remote.ReadManifest(i.from, d)
	if err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := i.survey(child); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs() {
		i.parts[blob.Digest] = blob
	}
	i.layers += len(m.Layers)
	return nil
}

// pull reads the image from a registry as a client does, by its tag, with every
// manifest and blob of it, and holds every byte to the digests of the layout.
func (i *image) pull(ctx context.Context, from *remote.Registry) error {
	m, err := from.Manifest(ctx, i.repository, i.tag)
	if err != nil {
		return err
	}
	if m.Digest != i.root.Digest {
		return fmt.Errorf("%s is %s here, not %s", i.name, m.Digest, i.root.Digest)
	}
	for _, part := range i.parts {
		if oci.IsManifest(part.MediaType) {
			_, err = from.Manifest(ctx, i.repository, string(part.Digest)) // it verifies the digest
		} else {
			err = i.pullBlob(ctx, from, part.Digest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (i *image) pullBlob(ctx context.Context, from *remote.Registry, d digest.Digest) error {
	body, _, err := from.Blob(ctx, i.repository, d, 0, -1)
	if err != nil {
		return err
	}
	verifier := d.Verifier()
	_, err = io.Copy(verifier, body)
	if err := errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("blob %s has other content", d)
	}
	return nil
}
