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

// Limits on a manifest. The distribution specification requires that a registry accept
// at least this size. The count keeps a small manifest from causing much work.
const (
	MaxManifestSize     = 4 << 20 // bytes
	MaxManifestChildren = 10_000  // layers, or an index's manifests
)

// A Descriptor is a descriptor of the image specification.
type Descriptor = v1.Descriptor

// A Manifest has the fields of a manifest or index that a registry needs: mostly, its
// references to blobs and other manifests. The stored bytes are never rebuilt from it.
type Manifest struct {
	MediaType    string
	ArtifactType string            // if an image has none, the media type of its config
	Annotations  map[string]string // the ones to list with referrers; see [annotations]
	Config       *Descriptor       // nil in an index
	Layers       []Descriptor      // in an index, the entries that are blobs
	Manifests    []Descriptor      // in an index, the entries that are manifests
	Subject      *Descriptor       // nil unless the manifest is a referrer
	Memory       int               // estimated size of all this, in bytes
}

// A rawManifest has the JSON form of a manifest or an index.
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

// rawManifests decodes manifests within a memory limit that no useful manifest reaches: a
// descriptor takes about four times the size of its text. It refuses a field that
// occurs twice or in another case, because a client and this registry could find
// different content in such a manifest. It is never modified.
var rawManifests = jsonlimit.NewScaled[rawManifest](func(text int) int { return 64<<10 + 8*min(text, 2<<20) }).Strict()

// Blobs returns the blobs that the manifest references, each digest once: the config,
// the layers, and the entries of an index that are blobs. Some of them are optional;
// see [MayBeAbsent].
func (m *Manifest) Blobs() []Descriptor {
	var blobs []Descriptor
	index := map[digest.Digest]int{}
	add := func(d Descriptor) {
		switch i, seen := index[d.Digest]; {
		case !seen:
			index[d.Digest] = len(blobs)
			blobs = append(blobs, d)
		case !MayBeAbsent(d): // it is required if any reference requires it
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

// MayBeAbsent reports whether a registry may serve a manifest without this blob: it has
// URLs to fetch it from, as Docker's foreign layers have. If such a blob is present, it
// is kept and synced like any other.
func MayBeAbsent(blob Descriptor) bool { return len(blob.URLs) > 0 }

// ParseManifest parses a manifest that was sent with contentType, which may be empty if
// the manifest has a mediaType. The payload must be one JSON object whose media type
// [IsManifest] accepts, with valid digests and sizes. Every error is
// [ErrManifestInvalid] or [ErrTooLarge].
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
			return nil, ErrManifestInvalid.With("manifest has more values than any image needs")
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
			if isManifestEntry(d) {
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

// isManifestEntry reports whether an entry of an index is a manifest: it has a media
// type of manifests, or none. Other entries are blobs, such as the layers in the index
// of a BuildKit cache.
func isManifestEntry(d Descriptor) bool { return d.MediaType == "" || IsManifest(d.MediaType) }

// manifestMediaType returns the media type, which is in the Content-Type header, in the
// manifest's own field, or in both: then they must agree.
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
		return "", ErrManifestInvalid.With("media type %q is not a manifest type that this registry supports",
			clip(mediaType))
	}
	return mediaType, nil
}

// children are descriptors, which are counted while they are decoded: three bytes of
// JSON are enough for one, and it takes a hundred times as much memory.
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
	*c = children{} // distinguishes an empty list from a missing one
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

// maxAnnotations is how many bytes of a manifest's annotations are kept.
const maxAnnotations = 16 << 10

// annotations are the annotations of a manifest that are listed with referrers. If they
// exceed [maxAnnotations], only the shortest are kept, as many as fit. The stored
// manifest always has all of them.
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
		kept[key.(string)] = value // if a key occurs twice, the last one counts, as in package json
		if size += kept.size(key.(string)); size > 2*maxAnnotations {
			size = kept.shorten()
		}
	}
	kept.shorten()
	*a = kept
	return nil
}

// size is the length of an annotation in JSON, without escapes.
func (a annotations) size(key string) int { return len(key) + len(a[key]) + len(`"":"",`) }

// shorten removes the longest annotations until the others fit [maxAnnotations], and
// returns their size.
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

// Media types of the manifests that the registry stores: those of the OCI image
// specification, and those of Docker's schema 2, which are served unchanged.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// IsManifest reports whether mediaType is one of a manifest or an index.
func IsManifest(mediaType string) bool {
	switch mediaType {
	case MediaTypeImageManifest, MediaTypeDockerManifest:
		return true
	}
	return IsIndex(mediaType)
}

// IsIndex reports whether mediaType is one of an index, from OCI or Docker.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeImageIndex || mediaType == MediaTypeDockerList
}
