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
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// The repository and the tags of the images that are packed.
const (
	packedRepository = "demo/ferry"
	firstTag         = "v1"
	secondTag        = "v2"
)

// sampleSize is the size in bytes of the file that differs between the two
// versions; it is a part of the program, the rest of which is the same.
const sampleSize = 1 << 20

// A file is one file of a layer.
type file struct {
	name    string
	mode    int64
	content io.Reader
	size    int64
}

func textFile(name, content string) file {
	return file{name, 0o644, strings.NewReader(content), int64(len(content))}
}

// pack makes two versions of an image of the running program, which differ in
// one layer, as an image layout in dir. Where the program is linked
// statically, the images run.
func pack(program, dir string) (*layout.Layout, error) {
	f, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("pack image: read the running program: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	l, err := layout.Create(dir)
	if err != nil {
		return nil, err
	}
	base, err := packLayer(l,
		textFile("etc/os-release", "ID=ferry-demo\nNAME=\"Ferry demo\"\nPRETTY_NAME=\"An image made by ferry demo\"\n"),
		textFile("etc/passwd", "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		textFile("etc/group", "root:x:0:\nnobody:x:65534:\n"),
	)
	if err != nil {
		return nil, err
	}
	whole, err := packLayer(l, file{"usr/bin/ferry", 0o755, f, info.Size()})
	if err != nil {
		return nil, err
	}
	for i, tag := range []string{firstTag, secondTag} {
		length := min(sampleSize, info.Size()/3) // a third, for the program of a test may be small
		sample, err := packLayer(l,
			file{"usr/share/ferry/sample", 0o644, io.NewSectionReader(f, int64(i+1)*length, length), length})
		if err != nil {
			return nil, err
		}
		note, err := packLayer(l, textFile("etc/ferry-release", tag+"\n"))
		if err != nil {
			return nil, err
		}
		if err := packImage(l, tag, []packed{base, whole, sample, note}); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// packed is a layer with the digest of its archive before it was compressed.
type packed struct {
	oci.Descriptor
	diffID digest.Digest
}

func packLayer(l *layout.Layout, files ...file) (packed, error) {
	plain := sha256.New()
	d, err := l.Put(v1.MediaTypeImageLayerGzip, func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		archive := tar.NewWriter(io.MultiWriter(zip, plain))
		for _, f := range files {
			header := &tar.Header{Name: f.name, Mode: f.mode, Size: f.size, Format: tar.FormatPAX}
			if err := archive.WriteHeader(header); err != nil {
				return err
			}
			if _, err := io.CopyN(archive, f.content, f.size); err != nil {
				return err
			}
		}
		return errors.Join(archive.Close(), zip.Close())
	})
	return packed{d, digest.NewDigest(digest.SHA256, plain)}, err
}

func packImage(l *layout.Layout, tag string, layers []packed) error {
	config := v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   v1.ImageConfig{Entrypoint: []string{"/usr/bin/ferry"}, Cmd: []string{"version"}, Labels: map[string]string{v1.AnnotationVersion: tag}},
		RootFS:   v1.RootFS{Type: "layers"},
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
	d, err := l.PutJSON(v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	return l.Tag(d, tag)
}
