package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// Media types of the attachments.
const (
	sbomType       = "application/vnd.cyclonedx+json"
	statementType  = "application/vnd.in-toto+json"
	provenanceType = "https://slsa.dev/provenance/v1"
)

// attachSBOM attaches the SBOM of a platform's program to the manifest of the platform.
func (b *builder) attachSBOM(l *layout.Layout, subject oci.Descriptor) error {
	sbom, err := l.Put(sbomType, func(w io.Writer) error {
		f, err := os.Open(filepath.Join(b.bin, subject.Platform.Architecture+".cdx.json"))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return err
	}
	return b.attach(l, subject, sbom, nil)
}

// A statement is an in-toto statement, version 1, about how the image was built.
type statement struct {
	Type          string     `json:"_type"`
	Subject       []artifact `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

// An artifact is something with a digest: a ResourceDescriptor of in-toto.
type artifact struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// A provenance is a predicate of SLSA, version 1.
type provenance struct {
	BuildDefinition struct {
		BuildType            string            `json:"buildType"`
		ExternalParameters   map[string]string `json:"externalParameters"`
		InternalParameters   map[string]string `json:"internalParameters"`
		ResolvedDependencies []artifact        `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// attachProvenance attaches the provenance of subjects to the first of them. It has no time
// and no machine in it, so that it is the same wherever the image is built.
func (b *builder) attachProvenance(l *layout.Layout, subjects []oci.Descriptor) error {
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: provenanceType}
	for _, d := range subjects {
		name := "ferry"
		if d.Platform != nil {
			name += "-" + d.Platform.OS + "-" + d.Platform.Architecture
		}
		s.Subject = append(s.Subject, artifact{Name: name,
			Digest: map[string]string{string(d.Digest.Algorithm()): d.Digest.Encoded()}})
	}
	p := &s.Predicate
	p.BuildDefinition.BuildType = "urn:ferry:make-image:v1"
	p.BuildDefinition.ExternalParameters = map[string]string{"commit": b.commit, "version": b.version}
	p.BuildDefinition.InternalParameters = map[string]string{"CGO_ENABLED": "0", "ldflags": "-s -w", "trimpath": "true"}
	p.BuildDefinition.ResolvedDependencies = []artifact{
		{Name: "source", URI: "git+ferry", Digest: map[string]string{"gitCommit": b.commit}},
		{Name: "go", URI: "pkg:generic/go@" + strings.TrimPrefix(runtime.Version(), "go")},
	}
	p.RunDetails.Builder.ID = "urn:ferry:make-image"
	d, err := l.PutJSON(statementType, s)
	if err != nil {
		return err
	}
	return b.attach(l, subjects[0], d, map[string]string{"in-toto.io/predicate-type": provenanceType})
}

// attach adds a referrer of subject with one layer, and the layer's media type as its type.
func (b *builder) attach(l *layout.Layout, subject, content oci.Descriptor, annotations map[string]string) error {
	empty, err := l.Put(v1.MediaTypeEmptyJSON, func(w io.Writer) error {
		_, err := io.WriteString(w, "{}")
		return err
	})
	if err != nil {
		return err
	}
	subject.Platform, subject.Annotations = nil, nil
	d, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: content.MediaType, Config: empty, Layers: []oci.Descriptor{content}, Subject: &subject,
		Annotations: annotations,
	})
	if err != nil {
		return err
	}
	d.ArtifactType = content.MediaType
	return l.Add(d)
}
