package demo

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// A cargo is one image that is to cross.
type cargo struct {
	repository, tag string
	root            oci.Descriptor
	from            *layout.Layout
	parts           map[digest.Digest]int64 // sizes of its manifests and blobs
	layers          int
}

// name is how a person names the image.
func (c *cargo) name() string { return c.repository + ":" + c.tag }

// size is how many bytes the image is in all, without those of others that
// are there already.
func (c *cargo) size(others ...*cargo) (bytes int64) {
	for d, n := range c.parts {
		there := false
		for _, o := range others {
			_, has := o.parts[d]
			there = there || has
		}
		if !there {
			bytes += n
		}
	}
	return bytes
}

// load finds the image of a layout and all that it is made of.
func load(l *layout.Layout, repository, tag string) (*cargo, error) {
	root, err := l.Resolve(tag)
	if err != nil {
		return nil, err
	}
	c := &cargo{repository: repository, tag: tag, root: root, from: l, parts: map[digest.Digest]int64{}}
	return c, c.survey(root)
}

// survey notes a manifest and all below it, each once.
func (c *cargo) survey(d oci.Descriptor) error {
	if _, seen := c.parts[d.Digest]; seen {
		return nil
	}
	c.parts[d.Digest] = d.Size
	f, err := c.from.Open(d.Digest)
	if err != nil {
		return fmt.Errorf("read image %s: manifest %s: %w", c.name(), d.Digest, err)
	}
	defer f.Close()
	payload, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return fmt.Errorf("read image %s: %w", c.name(), err)
	}
	m, err := oci.ParseManifest(d.MediaType, payload)
	if err != nil {
		return fmt.Errorf("read image %s: manifest %s: %w", c.name(), d.Digest, err)
	}
	for _, child := range m.Manifests {
		if err := c.survey(child); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs() {
		c.parts[blob.Digest] = blob.Size
	}
	c.layers += len(m.Layers)
	return nil
}

// notInName are the characters that no repository's name has.
var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// parseImage reads oci:DIR:TAG, and oci:DIR for the only image of a layout.
func parseImage(text string) (*cargo, error) {
	place, ok := strings.CutPrefix(text, "oci:")
	if !ok || place == "" {
		return nil, fmt.Errorf("%q is no image: want oci:DIR:TAG, an OCI image layout and a tag in it", text)
	}
	dir, tag, _ := strings.Cut(place, ":")
	l, err := layout.Open(dir)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(absolute)), "-"), "-")
	if name == "" {
		name = "image"
	}
	c, err := load(l, "demo/"+name, tag)
	if err != nil {
		return nil, err
	}
	if c.tag == "" {
		c.tag = "latest"
	}
	return c, oci.CheckTag(c.tag)
}

// parseImages reads what is to cross, which has to have different names.
func parseImages(texts []string) ([]*cargo, error) {
	var all []*cargo
	names := map[string]bool{}
	for _, text := range texts {
		c, err := parseImage(text)
		if err != nil {
			return nil, err
		}
		if names[c.name()] {
			return nil, fmt.Errorf("two images would be %s: give their tags or directories different names", c.name())
		}
		names[c.name()] = true
		all = append(all, c)
	}
	return all, nil
}
