// Package image makes images for tests, as OCI image layouts. Their layers are tar
// archives of random bytes, which cannot be compressed. The same seed makes the same
// digests.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Image is one image in an OCI image layout of its own.
type Image struct {
	Dir      string // the layout
	Tag      string // in the index of the layout
	Digest   digest.Digest
	Manifest v1.Manifest
	Size     int64 // total size of manifest, config and layers, in bytes
}

// Options are the properties of an image.
type Options struct {
	Seed   uint64
	Tag    string  // default "v1"
	Layers []int64 // sizes of the files in the layers, in bytes; a layer is a little larger
	Arch   string  // default "amd64"
	// Plain leaves layers uncompressed, which is quicker for large ones.
	Plain bool
	// Program is the path of a static program that the image runs; it has a layer of its own.
	Program string
}

// New makes an image in a directory that is deleted when the test ends.
func New(t testing.TB, o Options) *Image {
	t.Helper()
	if o.Tag == "" {
		o.Tag = "v1"
	}
	img := &Image{Dir: t.TempDir(), Tag: o.Tag}
	if err := img.write(o); err != nil {
		t.Fatalf("make image: %v", err)
	}
	return img
}

// Blob returns the path of one of the image's blobs.
func (m *Image) Blob(d digest.Digest) string {
	return filepath.Join(m.Dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// Blobs returns the config and the layers, in the order of the manifest.
func (m *Image) Blobs() []v1.Descriptor {
	return append([]v1.Descriptor{m.Manifest.Config}, m.Manifest.Layers...)
}

func (m *Image) write(o Options) error {
	if err := os.MkdirAll(filepath.Join(m.Dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	config := v1.Image{
		Platform: v1.Platform{Architecture: cmp.Or(o.Arch, "amd64"), OS: "linux"},
		Config:   v1.ImageConfig{Labels: map[string]string{"seed": fmt.Sprint(o.Seed)}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	m.Manifest = v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	add := func(header tar.Header, content io.Reader) error {
		layer, diffID, err := m.layer(o.Plain, header, content)
		if err != nil {
			return err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		m.Manifest.Layers = append(m.Manifest.Layers, layer)
		return nil
	}
	for i, size := range o.Layers {
		header := tar.Header{Name: fmt.Sprintf("file%d", i), Mode: 0o644, Size: size}
		if err := add(header, Random(o.Seed<<8+uint64(i))); err != nil {
			return err
		}
	}
	if o.Program != "" {
		text, err := os.ReadFile(o.Program)
		if err != nil {
			return err
		}
		header := tar.Header{Name: "program", Mode: 0o755, Size: int64(len(text))}
		if err := add(header, bytes.NewReader(text)); err != nil {
			return err
		}
		config.Config.Entrypoint = []string{"/program"}
	}
	var err error
	if m.Manifest.Config, err = m.json(v1.MediaTypeImageConfig, config); err != nil {
		return err
	}
	manifest, err := m.json(v1.MediaTypeImageManifest, m.Manifest)
	if err != nil {
		return err
	}
	m.Digest = manifest.Digest
	m.Size = manifest.Size
	for _, b := range m.Blobs() {
		m.Size += b.Size
	}
	manifest.Annotations = map[string]string{v1.AnnotationRefName: o.Tag}
	index := v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{manifest},
	}
	if err := writeJSON(filepath.Join(m.Dir, v1.ImageIndexFile), index); err != nil {
		return err
	}
	return writeJSON(filepath.Join(m.Dir, v1.ImageLayoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion})
}

// json writes v as a blob.
func (m *Image) json(mediaType string, v any) (v1.Descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := digest.FromBytes(text)
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}, os.WriteFile(m.Blob(d), text, 0o644)
}

func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// layer writes a layer, an archive with one file. It returns the layer and the digest of
// its uncompressed content.
func (m *Image) layer(uncompressed bool, header tar.Header, content io.Reader) (v1.Descriptor, digest.Digest, error) {
	f, err := os.CreateTemp(m.Dir, "layer-*")
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer f.Close()
	packed := sha256.New()
	plain := sha256.New()
	var out io.WriteCloser = nopCloser{io.MultiWriter(f, packed)}
	mediaType := v1.MediaTypeImageLayer
	if !uncompressed {
		mediaType = v1.MediaTypeImageLayerGzip
		if out, err = gzip.NewWriterLevel(out, gzip.NoCompression); err != nil {
			return v1.Descriptor{}, "", err
		}
	}
	archive := tar.NewWriter(io.MultiWriter(out, plain))
	header.Format = tar.FormatPAX
	if err := archive.WriteHeader(&header); err != nil {
		return v1.Descriptor{}, "", err
	}
	if _, err := io.CopyN(archive, content, header.Size); err != nil {
		return v1.Descriptor{}, "", err
	}
	if err := archive.Close(); err != nil {
		return v1.Descriptor{}, "", err
	}
	if err := out.Close(); err != nil {
		return v1.Descriptor{}, "", err
	}
	length, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	d := digest.NewDigest(digest.SHA256, packed)
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: length},
		digest.NewDigest(digest.SHA256, plain), os.Rename(f.Name(), m.Blob(d))
}

// Random returns an endless reader of pseudo-random bytes that depend only on seed.
func Random(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
