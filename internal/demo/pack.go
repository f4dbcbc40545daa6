package demo

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// sampleSize is the size in bytes of the file that differs between the two
// versions; it is a part of the program, the rest of which is the same.
const sampleSize = 1 << 20

// pack adds two versions of an image of the running program, which differ in
// one layer. Where the program is linked statically, the images run.
func (d *demo) pack() error {
	f, err := os.Open(d.Program)
	if err != nil {
		return fmt.Errorf("pack image: read the running program: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	l, err := layout.Create(d.path("ferry"))
	if err != nil {
		return err
	}
	program, err := packLayer(l, "usr/bin/ferry", 0o755, io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return err
	}
	for i, tag := range []string{"v1", "v2"} {
		length := min(sampleSize, info.Size()/3) // a third, for the program of a test may be small
		sample, err := packLayer(l, "usr/share/ferry/sample", 0o644, io.NewSectionReader(f, int64(i+1)*length, length))
		if err != nil {
			return err
		}
		if err := packImage(l, tag, program, sample); err != nil {
			return err
		}
		if err := d.open(d.path("ferry"), tag); err != nil {
			return err
		}
	}
	return nil
}

// packed is a layer with the digest of its archive before it was compressed.
type packed struct {
	oci.Descriptor
	diffID digest.Digest
}

// packLayer stores a layer of one file.
func packLayer(l *layout.Layout, name string, mode int64, content *io.SectionReader) (packed, error) {
	plain := sha256.New()
	d, err := l.Put(v1.MediaTypeImageLayerGzip, func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		archive := tar.NewWriter(io.MultiWriter(zip, plain))
		header := &tar.Header{Name: name, Mode: mode, Size: content.Size(), Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = io.Copy(archive, content)
		return errors.Join(err, archive.Close(), zip.Close())
	})
	return packed{d, digest.NewDigest(digest.SHA256, plain)}, err
}

// packImage stores the configuration and the manifest of an image.
func packImage(l *layout.Layout, tag string, layers ...packed) error {
	config := v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config: v1.ImageConfig{
			Entrypoint: []string{"/usr/bin/ferry"}, Cmd: []string{"version"}, Labels: map[string]string{v1.AnnotationVersion: tag},
		},
		RootFS: v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.diffID)
		manifest.Layers = append(manifest.Layers, layer.Descriptor)
	}
	var err error
	if manifest.Config, err = l.PutJSON(v1.MediaTypeImageConfig, config); err != nil {
		return err
	}
	root, err := l.PutJSON(v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	return l.Tag(root, tag)
}
