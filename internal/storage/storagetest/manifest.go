package storagetest

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
)

// A Manifest is an image, an index or a referrer. Its JSON omits the fields that are zero.
type Manifest struct {
	MediaType    string            `json:"mediaType"` // "" is that of an image
	ArtifactType string            `json:"artifactType,omitempty"`
	Config       *oci.Descriptor   `json:"config,omitempty"`
	Layers       []oci.Descriptor  `json:"layers,omitempty"`
	Manifests    []oci.Descriptor  `json:"manifests,omitempty"`
	Subject      *oci.Descriptor   `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Index returns an index of manifests.
func Index(manifests ...oci.Descriptor) Manifest {
	return Manifest{MediaType: oci.MediaTypeImageIndex, Manifests: manifests}
}

// Payload returns the manifest's JSON, always the same for the same manifest.
func (m Manifest) Payload() []byte {
	m.MediaType = cmp.Or(m.MediaType, oci.MediaTypeImageManifest)
	payload, err := json.Marshal(struct {
		SchemaVersion int `json:"schemaVersion"`
		Manifest
	}{2, m})
	if err != nil {
		panic(err) // there is nothing in it that JSON has no form for
	}
	return payload
}

// Reference returns a descriptor of an image manifest that need not exist. Its size is wrong, which
// storage does not check.
func Reference(d digest.Digest) oci.Descriptor {
	return oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: d, Size: 1}
}

// ReferenceFor returns a [Reference] for a platform, such as "linux/amd64".
func ReferenceFor(platform string, d digest.Digest) oci.Descriptor {
	r := Reference(d)
	os, architecture, _ := strings.Cut(platform, "/")
	r.Platform = &v1.Platform{OS: os, Architecture: architecture}
	return r
}
