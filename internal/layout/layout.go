// Package layout reads and writes OCI image layouts: directories with an index and blobs, as in
// "OCI Image Layout" of the image specification.
package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
)

// A Layout is one image layout. It may have one writer at a time.
type Layout struct{ dir string }

// Open opens the layout in dir, which must be one of version 1.
func Open(dir string) (*Layout, error) {
	var mark v1.ImageLayout
	err := readJSON(filepath.Join(dir, v1.ImageLayoutFile), &mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open image layout %s: it has no file %s", dir, v1.ImageLayoutFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", dir, err)
	}
	if mark.Version != v1.ImageLayoutVersion {
		return nil, fmt.Errorf("open image layout %s: its version is %q, want %q", dir, mark.Version,
			v1.ImageLayoutVersion)
	}
	return &Layout{dir}, nil
}

// Create creates the directory dir with an empty layout.
func Create(dir string) (*Layout, error) {
	l := &Layout{dir}
	err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, string(digest.SHA256)), 0o755)
	if err == nil {
		err = writeJSON(filepath.Join(dir, v1.ImageLayoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion})
	}
	if err == nil {
		err = l.writeIndex(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("create image layout: %w", err)
	}
	return l, nil
}

// Manifests returns the manifests and indexes that the layout lists, with and without a tag.
func (l *Layout) Manifests() ([]oci.Descriptor, error) {
	all, err := l.index()
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", l.dir, err)
	}
	return all, nil
}

// Resolve returns the manifest or index that tag names. If tag is "", it returns the only one
// with a tag or, if none has a tag, the only one.
func (l *Layout) Resolve(tag string) (oci.Descriptor, error) {
	all, err := l.Manifests()
	if err != nil {
		return oci.Descriptor{}, err
	}
	var tags []string
	var tagged []oci.Descriptor
	for _, d := range all {
		name := d.Annotations[v1.AnnotationRefName]
		if tag != "" && name == tag || tag == "" && len(all) == 1 {
			return d, nil
		}
		if name != "" {
			tags, tagged = append(tags, name), append(tagged, d)
		}
	}
	switch {
	case tag == "" && len(tagged) == 1:
		return tagged[0], nil
	case len(all) == 0:
		return oci.Descriptor{}, fmt.Errorf("image layout %s has no image", l.dir)
	case tag == "":
		return oci.Descriptor{}, fmt.Errorf("image layout %s has several images: %s", l.dir, list(tags))
	}
	return oci.Descriptor{}, fmt.Errorf("image layout %s has no image %q: it has %s", l.dir, tag, list(tags))
}

// list returns tags as text for an error, ten at most.
func list(tags []string) string {
	const most = 10
	switch {
	case len(tags) == 0:
		return "none with a tag"
	case len(tags) > most:
		return strings.Join(tags[:most], ", ") + ", ..."
	}
	return strings.Join(tags, ", ")
}

// Open opens a blob or a manifest for reading. It does not verify the content. If the layout
// does not have it, the error is fs.ErrNotExist.
func (l *Layout) Open(d digest.Digest) (io.ReadCloser, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	return os.Open(l.path(d))
}

// Put stores the output of write as a blob, and returns its descriptor.
func (l *Layout) Put(mediaType string, write func(w io.Writer) error) (oci.Descriptor, error) {
	f, err := os.CreateTemp(l.dir, ".blob-*")
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("put blob: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	hash := digest.SHA256.Hash()
	err = write(io.MultiWriter(f, hash))
	size, seekErr := f.Seek(0, io.SeekCurrent)
	d := digest.NewDigest(digest.SHA256, hash)
	if err = errors.Join(err, seekErr, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.path(d))
	}
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("put blob: %w", err)
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}, nil
}

// PutJSON stores v, encoded as JSON, as a blob.
func (l *Layout) PutJSON(mediaType string, v any) (oci.Descriptor, error) {
	return l.Put(mediaType, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

// Tag makes d the only manifest that tag names.
func (l *Layout) Tag(d oci.Descriptor, tag string) error {
	all, err := l.index()
	if err == nil {
		all = slices.DeleteFunc(all, func(o oci.Descriptor) bool { return o.Annotations[v1.AnnotationRefName] == tag })
		d.Annotations = map[string]string{v1.AnnotationRefName: tag}
		err = l.writeIndex(append(all, d))
	}
	if err != nil {
		return fmt.Errorf("tag %s: %w", tag, err)
	}
	return nil
}

// Add lists d without a tag. That is how a layout lists a referrer.
func (l *Layout) Add(d oci.Descriptor) error {
	all, err := l.index()
	if err == nil {
		all = slices.DeleteFunc(all, func(o oci.Descriptor) bool {
			return o.Digest == d.Digest && o.Annotations[v1.AnnotationRefName] == ""
		})
		err = l.writeIndex(append(all, d))
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", d.Digest, err)
	}
	return nil
}

func (l *Layout) path(d digest.Digest) string {
	return filepath.Join(l.dir, v1.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

func (l *Layout) index() ([]oci.Descriptor, error) {
	var index v1.Index
	err := readJSON(filepath.Join(l.dir, v1.ImageIndexFile), &index)
	return index.Manifests, err
}

func (l *Layout) writeIndex(all []oci.Descriptor) error {
	return writeJSON(filepath.Join(l.dir, v1.ImageIndexFile), v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: all,
	})
}

// readJSON decodes a file, which may be as large as a manifest, into v.
func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return err
	}
	if len(text) > oci.MaxManifestSize {
		return fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), oci.MaxManifestSize)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", filepath.Base(path), err)
	}
	return nil
}

// writeJSON replaces a file atomically.
func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
