package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// user is the user and the group of the program in the image. Kubernetes accepts only a number as
// proof that the user is not root.
const user = 65532

// platforms are the platforms of the image. Their programs are named for the architecture.
var platforms = []v1.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64"},
	{OS: "linux", Architecture: "arm", Variant: "v7"},
}

// A builder makes the image.
type builder struct {
	bin, out        string // directories
	version, commit string
	created         time.Time // the only time in the image
}

// build replaces the layout, and returns the index of the image.
func (b *builder) build() (oci.Descriptor, error) {
	if err := os.RemoveAll(b.out); err != nil {
		return oci.Descriptor{}, err
	}
	l, err := layout.Create(b.out)
	if err != nil {
		return oci.Descriptor{}, err
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Annotations: b.annotations()}
	for _, p := range platforms {
		d, err := b.image(l, p)
		if err != nil {
			return oci.Descriptor{}, fmt.Errorf("image for %s: %w", p.Architecture, err)
		}
		index.Manifests = append(index.Manifests, d)
	}
	d, err := l.PutJSON(v1.MediaTypeImageIndex, index)
	if err == nil {
		err = l.Tag(d, b.version)
	}
	for _, m := range index.Manifests {
		if err == nil {
			err = b.attachSBOM(l, m)
		}
	}
	if err == nil {
		err = b.attachProvenance(l, append([]oci.Descriptor{d}, index.Manifests...))
	}
	return d, err
}

func (b *builder) annotations() map[string]string {
	return map[string]string{
		v1.AnnotationTitle:    "ferry",
		v1.AnnotationVersion:  b.version,
		v1.AnnotationRevision: b.commit,
		v1.AnnotationCreated:  b.created.Format(time.RFC3339),
		v1.AnnotationLicenses: "Apache-2.0",
	}
}

// image puts the image of one platform.
func (b *builder) image(l *layout.Layout, p v1.Platform) (oci.Descriptor, error) {
	plain := digest.SHA256.Digester()
	layer, err := l.Put(v1.MediaTypeImageLayerGzip, func(w io.Writer) error {
		packed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		if err := b.files(tar.NewWriter(io.MultiWriter(packed, plain.Hash())), p); err != nil {
			return err
		}
		return packed.Close()
	})
	if err != nil {
		return oci.Descriptor{}, err
	}
	config, err := l.PutJSON(v1.MediaTypeImageConfig, v1.Image{
		Created:  &b.created,
		Platform: p,
		Config: v1.ImageConfig{
			User:       fmt.Sprintf("%d:%d", user, user),
			Entrypoint: []string{"/usr/bin/ferry"},
			Cmd:        []string{"serve"},
			// An operator's settings, and the variables of the reference, take precedence over these.
			Env: []string{"PATH=/usr/bin", "FERRY_DEFAULT_DATA_DIR=/var/lib/ferry",
				"FERRY_DEFAULT_LISTEN=:5000"},
			ExposedPorts: map[string]struct{}{"5000/tcp": {}},
			Volumes:      map[string]struct{}{"/var/lib/ferry": {}},
			WorkingDir:   "/",
			Labels:       b.annotations(),
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{plain.Digest()}},
		History: []v1.History{{Created: &b.created, CreatedBy: "build/image"}},
	})
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []oci.Descriptor{layer}, Annotations: b.annotations(),
	})
	d.Platform = &p
	return d, err
}

// files writes the only layer of an image: the program, a data directory, and names for the
// user. The program has authorities and time zones in it.
func (b *builder) files(w *tar.Writer, p v1.Platform) error {
	for _, dir := range []string{"etc/", "usr/", "usr/bin/", "var/", "var/acr/", "var/lib/"} {
		if err := b.header(w, tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, dir := range []string{"var/acr/data/", "var/lib/ferry/"} { // the first is the reference's
		data := tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o700, Uid: user, Gid: user}
		if err := b.header(w, data); err != nil {
			return err
		}
	}
	for _, file := range []struct{ name, text string }{
		{"etc/passwd", fmt.Sprintf("root:x:0:0::/:/\nferry:x:%d:%d::/var/lib/ferry:/\n", user, user)},
		{"etc/group", fmt.Sprintf("root:x:0:\nferry:x:%d:\n", user)},
	} {
		if err := b.header(w, tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(w, file.text); err != nil {
			return err
		}
	}
	program, err := os.Open(filepath.Join(b.bin, "ferry-linux-"+p.Architecture))
	if err != nil {
		return err
	}
	defer program.Close()
	info, err := program.Stat()
	if err != nil {
		return err
	}
	if err := b.header(w, tar.Header{Name: "usr/bin/ferry", Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(w, program); err != nil {
		return err
	}
	return w.Close()
}

func (b *builder) header(w *tar.Writer, h tar.Header) error {
	h.Format, h.ModTime = tar.FormatUSTAR, b.created
	return w.WriteHeader(&h)
}
