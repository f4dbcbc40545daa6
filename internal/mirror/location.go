package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// A Location is a repository of another registry.
type Location struct {
	Address    string // of the registry: its scheme and host
	Repository string
}

// dockerHub is the host of the registry that is known as docker.io.
const dockerHub = "registry-1.docker.io"

// ParseLocation parses HOST/REPOSITORY, which uses TLS, or http://HOST/REPOSITORY. For
// docker.io it also accepts the short names of official images.
func ParseLocation(text string) (Location, error) {
	i, err := parseReference(text)
	if err == nil && i.reference() != "" {
		err = fmt.Errorf("source %.200q: want a repository, without a tag or a digest", text)
	}
	return i.Location, err
}

// An Image is an image of another registry. If it has a tag and a digest, the digest
// identifies it.
type Image struct {
	Location
	Tag    string        // may be "" if there is a digest
	Digest digest.Digest // may be ""
}

// reference is the reference for requests to the registry.
func (i Image) reference() string { return cmp.Or(string(i.Digest), i.Tag) }

// parseImage parses HOST/REPOSITORY[:TAG][@DIGEST]; see [ParseLocation] for the first
// part. Without a tag and a digest, the tag is latest.
func parseImage(text string) (Image, error) {
	i, err := parseReference(text)
	if i.reference() == "" {
		i.Tag = "latest"
	}
	return i, err
}

// errCredentials does not repeat the source, which has a password in it.
var errCredentials = errors.New("credentials do not belong in the source: " +
	"use --username and --password-stdin; a digest is @sha256:HEX")

func parseReference(text string) (Image, error) {
	if _, behind, ok := strings.Cut(text, "@"); ok {
		if algorithm, _, _ := strings.Cut(behind, ":"); !digest.Algorithm(algorithm).Available() {
			return Image{}, errCredentials
		}
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "https", text
	}
	if scheme != "https" && scheme != "http" {
		return Image{}, fmt.Errorf(
			"source %.200q: %.20q is not a registry protocol: want https or http", text, scheme)
	}
	r, err := oci.ParseReference(rest)
	if err != nil {
		return Image{}, fmt.Errorf("source %.200q: %w", text, err)
	}
	if r.Host == "" {
		return Image{}, fmt.Errorf(
			"source %.200q: it names no registry: want HOST/REPOSITORY, such as docker.io/library/alpine", text)
	}
	if r.Host == "docker.io" || r.Host == "index.docker.io" {
		r.Host = dockerHub
		if !strings.Contains(r.Repository, "/") {
			r.Repository = "library/" + r.Repository
		}
	}
	return Image{Location{Address: scheme + "://" + r.Host, Repository: r.Repository}, r.Tag, r.Digest}, nil
}
