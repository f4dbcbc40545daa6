package demo

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
	"ferry/internal/remote"
)

// An image is an image that the demo syncs.
type image struct {
	name            string // repository:tag
	repository, tag string
	from            *layout.Layout
	root            oci.Descriptor
	parts           map[digest.Digest]oci.Descriptor // its manifests and blobs
	layers          int
	size            int64 // in bytes, of all its parts
	newBytes        int64 // of those that no image before it has
}

// notInName matches characters that a repository's name cannot have.
var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// addImage adds an image of the layout in dir. The repository is named after dir. The tag
// "" is the layout's only image.
func (d *demo) addImage(dir, tag string) error {
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
	if slices.ContainsFunc(d.images, func(other *image) bool { return other.name == i.name }) {
		return fmt.Errorf("two images would be %s: give their tags or directories different names", i.name)
	}
	if err := i.collect(root); err != nil {
		return fmt.Errorf("read image %s: %w", i.name, err)
	}
	for _, part := range i.parts {
		i.size += part.Size
		if !d.known[part.Digest] {
			i.newBytes += part.Size
		}
		d.known[part.Digest] = true
	}
	d.images = append(d.images, i)
	return nil
}

// collect adds a manifest and all of its descendants to the parts.
func (i *image) collect(d oci.Descriptor) error {
	if _, seen := i.parts[d.Digest]; seen {
		return nil
	}
	i.parts[d.Digest] = d
	_, m, err := remote.ReadManifest(i.from, d)
	if err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := i.collect(child); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs() {
		i.parts[blob.Digest] = blob
	}
	i.layers += len(m.Layers)
	return nil
}

// pull pulls the image from a registry by its tag, with every manifest and blob, and
// verifies their digests.
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
			_, err = from.Manifest(ctx, i.repository, string(part.Digest)) // verifies the digest
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

// sampleSize is the size in bytes of the only file that differs between the two versions.
// Its content is a part of the program.
const sampleSize = 1 << 20

// pack adds two versions of an image of the running program. They differ in one layer. If
// the program is linked statically, the images run.
func (d *demo) pack() error {
	content, err := os.ReadFile(d.Program)
	if err != nil {
		return fmt.Errorf("pack image: read the running program: %w", err)
	}
	l, err := layout.Create(d.path("ferry"))
	if err != nil {
		return err
	}
	program, err := packLayer(l, "usr/bin/ferry", 0o755, content)
	if err != nil {
		return err
	}
	length := min(sampleSize, len(content)/3) // the program of a test may be small
	for i, tag := range []string{"v1", "v2"} {
		sample, err := packLayer(l, "usr/share/ferry/sample", 0o644, content[(i+1)*length:(i+2)*length])
		if err != nil {
			return err
		}
		if err := packImage(l, tag, program, sample); err != nil {
			return err
		}
		if err := d.addImage(d.path("ferry"), tag); err != nil {
			return err
		}
	}
	return nil
}

// packed is a layer with the digest of its uncompressed archive.
type packed struct {
	oci.Descriptor
	diffID digest.Digest
}

// packLayer stores a layer of one file.
func packLayer(l *layout.Layout, name string, mode int64, content []byte) (packed, error) {
	plain := sha256.New()
	d, err := l.Put(v1.MediaTypeImageLayerGzip, func(w io.Writer) error {
		zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // only a wrong level is an error
		archive := tar.NewWriter(io.MultiWriter(zip, plain))
		header := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Format: tar.FormatPAX}
		err := archive.WriteHeader(header)
		if err == nil {
			_, err = archive.Write(content)
		}
		return cmp.Or(err, archive.Close(), zip.Close()) // the first is the cause of the others
	})
	return packed{d, digest.NewDigest(digest.SHA256, plain)}, err
}

// packImage stores the configuration and the manifest of an image.
func packImage(l *layout.Layout, tag string, program, sample packed) error {
	config, err := l.PutJSON(v1.MediaTypeImageConfig, v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config: v1.ImageConfig{
			Entrypoint: []string{"/usr/bin/ferry"}, Cmd: []string{"version"},
			Labels: map[string]string{v1.AnnotationVersion: tag},
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{program.diffID, sample.diffID}},
	})
	if err != nil {
		return err
	}
	root, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []oci.Descriptor{program.Descriptor, sample.Descriptor},
	})
	if err != nil {
		return err
	}
	return l.Tag(root, tag)
}
