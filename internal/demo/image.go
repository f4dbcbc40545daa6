package demo

import (
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
	manifests       map[digest.Digest]int64 // their sizes
	blobs           map[digest.Digest]int64
	layers          int
	size            int64 // in bytes, of all its manifests and blobs
	fresh           int64 // of those that no image before it has
}

// notInName are the characters that no repository's name has.
var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// open adds the image oci:DIR:TAG, or oci:DIR for the only one of a layout.
func (d *demo) open(text string) error {
	place, ok := strings.CutPrefix(text, "oci:")
	if !ok || place == "" {
		return fmt.Errorf("%q is no image: want oci:DIR:TAG, an OCI image layout and a tag in it", text)
	}
	dir, tag, _ := strings.Cut(place, ":")
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
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(absolute)), "-"), "-")
	if name == "" {
		name = "image"
	}
	if tag == "" {
		tag = "latest"
	}
	if err := oci.CheckTag(tag); err != nil {
		return err
	}
	return d.add(l, root, "demo/"+name, tag)
}

// add lets an image of a layout cross after those that were added before it,
// whose names must differ.
func (d *demo) add(from *layout.Layout, root oci.Descriptor, repository, tag string) error {
	i := &image{
		name: repository + ":" + tag, repository: repository, tag: tag, from: from, root: root,
		manifests: map[digest.Digest]int64{}, blobs: map[digest.Digest]int64{},
	}
	for _, other := range d.images {
		if other.name == i.name {
			return fmt.Errorf("two images would be %s: give their tags or directories different names", i.name)
		}
	}
	if err := i.survey(root); err != nil {
		return fmt.Errorf("read image %s: %w", i.name, err)
	}
	for _, parts := range []map[digest.Digest]int64{i.manifests, i.blobs} {
		for part, size := range parts {
			i.size += size
			if !d.known[part] {
				i.fresh += size
			}
			d.known[part] = true
		}
	}
	d.images = append(d.images, i)
	return nil
}

// survey notes a manifest and all below it.
func (i *image) survey(d oci.Descriptor) error {
	if _, seen := i.manifests[d.Digest]; seen {
		return nil
	}
	i.manifests[d.Digest] = d.Size
	f, err := i.from.Open(d.Digest)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	defer f.Close()
	payload, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	m, err := oci.ParseManifest(d.MediaType, payload)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	for _, child := range m.Manifests {
		if err := i.survey(child); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs() {
		i.blobs[blob.Digest] = blob.Size
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
	for d := range i.manifests {
		if _, err := from.Manifest(ctx, i.repository, string(d)); err != nil { // it verifies the digest
			return err
		}
	}
	for d := range i.blobs {
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
	}
	return nil
}
