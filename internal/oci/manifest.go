package oci

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/jsonlimit"
)

// Limits on a manifest. The size is the least that the distribution
// specification asks a registry to accept; the count keeps a small manifest
// from causing a large amount of work.
const (
	MaxManifestSize     = 4 << 20 // bytes
	MaxManifestChildren = 10_000  // layers, or an index's manifests
)

// A Descriptor is a descriptor of the image specification.
type Descriptor = v1.Descriptor

// A Manifest is what the registry needs to know of a stored manifest or
// index: what it refers to. The bytes themselves are never rebuilt from it.
type Manifest struct {
	MediaType    string
	ArtifactType string            // of the manifest; an image's config media type where it has none
	Annotations  map[string]string // those that are listed with referrers; see [annotations]
	Config       *Descriptor       // nil in an index
	Layers       []Descriptor      // of an index, its entries that are blobs
	Manifests    []Descriptor      // of an index, its entries that are manifests
	Subject      *Descriptor       // nil where the manifest is no referrer
	Memory       int               // bytes that all this takes, as estimated
}

// A rawManifest is a manifest or an index as it is written.
type rawManifest struct {
	SchemaVersion int         `json:"schemaVersion"`
	MediaType     string      `json:"mediaType"`
	ArtifactType  string      `json:"artifactType"`
	Config        *Descriptor `json:"config"`
	Layers        children    `json:"layers"`
	Manifests     children    `json:"manifests"`
	Subject       *Descriptor `json:"subject"`
	Annotations   annotations `json:"annotations"`
}

// rawManifests decodes manifests whose values take no more memory than any manifest
// that is of use: a descriptor takes some four times its text. It refuses a field
// that is there twice or in another case: a client and this registry could find
// different content in the same manifest. It is only read.
var rawManifests = jsonlimit.NewScaled[rawManifest](func(text int) int { return 64<<10 + 8*min(text, 2<<20) }).Strict()

// Blobs returns the blobs that the manifest refers to, each digest once: the
// config, the layers, and the entries of an index that are no manifests. Some
// of them need not be here; see [MayBeAbsent].
func (m *Manifest) Blobs() []Descriptor {
	var blobs []Descriptor
	place := map[digest.Digest]int{}
	add := func(d Descriptor) {
		switch i, seen := place[d.Digest]; {
		case !seen:
			place[d.Digest] = len(blobs)
			blobs = append(blobs, d)
		case !MayBeAbsent(d): // elsewhere in the manifest it may
			blobs[i] = d
		}
	}
	if m.Config != nil {
		add(*m.Config)
	}
	for _, l := range m.Layers {
		add(l)
	}
	return blobs
}

// MayBeAbsent reports whether a registry may serve a manifest without this blob:
// it has URLs to come from, as Docker's foreign layers do. A blob that is here
// all the same is kept, and synced, like any other.
func MayBeAbsent(blob Descriptor) bool { return len(blob.URLs) > 0 }

// ParseManifest reads a manifest that was sent with contentType, which may be
// empty when the manifest names its own media type. The payload must be one
// JSON object of a media type that [IsManifest] knows, with valid digests and
// sizes. Every error is [ErrManifestInvalid] or [ErrTooLarge].
func ParseManifest(contentType string, payload []byte) (*Manifest, error) {
	if len(payload) > MaxManifestSize {
		return nil, ErrTooLarge.With("manifest is larger than %d bytes", MaxManifestSize)
	}
	var raw rawManifest
	memory, err := rawManifests.Unmarshal(payload, &raw)
	if err != nil {
		if e := AsError(err); e != nil {
			return nil, e
		}
		if errors.Is(err, jsonlimit.ErrTooLarge) {
			return nil, ErrManifestInvalid.With("manifest holds more values than any image has")
		}
		if e, ok := errors.AsType[jsonlimit.FieldError](err); ok {
			return nil, ErrManifestInvalid.With("manifest is ambiguous: %s", clip(e.Error()))
		}
		return nil, ErrManifestInvalid.With("manifest is not valid JSON: %s", clip(err.Error()))
	}
	mediaType, err := manifestMediaType(contentType, raw.MediaType)
	if err != nil {
		return nil, err
	}
	if raw.SchemaVersion != 2 {
		return nil, ErrManifestInvalid.With("schemaVersion is %d, want 2", raw.SchemaVersion)
	}
	m := &Manifest{MediaType: mediaType, ArtifactType: raw.ArtifactType, Annotations: raw.Annotations,
		Subject: raw.Subject, Memory: memory}
	if IsIndex(mediaType) {
		if raw.Config != nil || raw.Layers != nil {
			return nil, ErrManifestInvalid.With("an index has no config or layers")
		}
		for _, d := range raw.Manifests {
			if isEntryOfManifest(d) {
				m.Manifests = append(m.Manifests, d)
			} else {
				m.Layers = append(m.Layers, d)
			}
		}
	} else {
		if raw.Manifests != nil {
			return nil, ErrManifestInvalid.With("an image manifest has no manifests; is it an index?")
		}
		if raw.Config == nil {
			return nil, ErrManifestInvalid.With("an image manifest needs a config")
		}
		m.Config, m.Layers = raw.Config, raw.Layers
		if m.ArtifactType == "" {
			m.ArtifactType = raw.Config.MediaType
		}
	}
	return m, m.check()
}

// isEntryOfManifest reports whether an entry of an index is a manifest: one whose
// media type is that of a manifest, or is not said. Others are blobs, such as the
// layers in the index of a cache that BuildKit pushes.
func isEntryOfManifest(d Descriptor) bool { return d.MediaType == "" || IsManifest(d.MediaType) }

// manifestMediaType settles the media type from the Content-Type header and
// the manifest's own field, which must agree.
func manifestMediaType(contentType, own string) (string, error) {
	mediaType := own
	if contentType != "" {
		parsed, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return "", ErrManifestInvalid.With("Content-Type %q is malformed", clip(contentType))
		}
		if own != "" && own != parsed {
			return "", ErrManifestInvalid.With("Content-Type %q does not match the manifest's mediaType %q",
				clip(parsed), clip(own))
		}
		mediaType = parsed
	}
	if !IsManifest(mediaType) {
		return "", ErrManifestInvalid.With("media type %q is not of a manifest that this registry keeps",
			clip(mediaType))
	}
	return mediaType, nil
}

// children are descriptors that are counted while they are read: three bytes
// of JSON are enough for one, which takes a hundred times as much in memory.
type children []Descriptor

// UnmarshalJSON implements [json.Unmarshaler].
func (c *children) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if first, err := dec.Token(); err != nil || first != json.Delim('[') {
		return ErrManifestInvalid.With("layers and manifests are lists")
	}
	*c = children{} // an empty list is not no list
	for dec.More() {
		if len(*c) == MaxManifestChildren {
			return ErrManifestInvalid.With("manifest has more than %d children", MaxManifestChildren)
		}
		var d Descriptor
		if err := dec.Decode(&d); err != nil {
			return err
		}
		*c = append(*c, d)
	}
	return nil
}

// maxAnnotations bounds, in bytes, the annotations that are kept of a manifest.
const maxAnnotations = 16 << 10

// annotations are the annotations of a manifest that are listed with referrers: all,
// or where they are too long the shortest of them, as many as fit. The manifest's
// bytes have them all.
type annotations map[string]string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *annotations) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	first, err := dec.Token()
	if err != nil || first == nil { // null
		return err
	}
	if first != json.Delim('{') {
		return ErrManifestInvalid.With("annotations are an object of strings")
	}
	kept, size := annotations{}, 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value string
		if err := dec.Decode(&value); err != nil {
			return err
		}
		kept[key.(string)] = value // the last of a key, as readers take it
		if size += kept.size(key.(string)); size > 2*maxAnnotations {
			size = kept.shorten()
		}
	}
	kept.shorten()
	*a = kept
	return nil
}

// size is what an annotation takes in JSON, but for escapes.
func (a annotations) size(key string) int { return len(key) + len(a[key]) + len(`"":"",`) }

// shorten removes the longest annotations that are too many, and returns the size of
// the others.
func (a annotations) shorten() (size int) {
	bySize := func(x, y string) int { return cmp.Or(a.size(x)-a.size(y), cmp.Compare(x, y)) }
	full := false
	for _, key := range slices.SortedFunc(maps.Keys(a), bySize) {
		if full = full || size+a.size(key) > maxAnnotations; full {
			delete(a, key)
		} else {
			size += a.size(key)
		}
	}
	return size
}

func (m *Manifest) check() error {
	all := append(append([]Descriptor{}, m.Layers...), m.Manifests...)
	for _, d := range []*Descriptor{m.Config, m.Subject} {
		if d != nil {
			all = append(all, *d)
		}
	}
	for _, d := range all {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return ErrManifestInvalid.With("%s", AsError(err).Message)
		}
		if d.Size < 0 {
			return ErrManifestInvalid.With("descriptor %s has a negative size", d.Digest)
		}
	}
	return nil
}

// Media types of manifests that the registry keeps. The OCI ones are of the
// image specification; Docker's are its schema 2, stored and served as they are.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// IsManifest reports whether mediaType names a manifest or an index.
func IsManifest(mediaType string) bool {
	switch mediaType {
	case MediaTypeImageManifest, MediaTypeDockerManifest:
		return true
	}
	return IsIndex(mediaType)
}

// IsIndex reports whether mediaType names an index, OCI's or Docker's.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeImageIndex || mediaType == MediaTypeDockerList
}
