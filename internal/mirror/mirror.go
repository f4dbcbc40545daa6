// Package mirror keeps repositories here in sync with repositories of other
// registries, whatever software these run: by rules, on a schedule, or once, by
// an import. It moves content with the same engine as a sync with a parent, and
// continues from the same byte in the same way.
//
// A [Service] (service.go) starts runs (run.go) of rules when they are due
// (due.go), and imports (import.go). Both read from a source (source.go), which
// they ask again if it does not answer (retry.go). What a rule selects is a
// listing (listing.go, item.go), which is doubted if it shrank by much (doubt.go).
package mirror

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/subscription"
)

// A Spec is what an operator decided for a rule.
type Spec struct {
	Source     string   `json:"source"`           // as [ParseLocation] reads it
	Repository string   `json:"repository"`       // here
	Schedule   string   `json:"schedule"`         // cron
	Window     string   `json:"window,omitempty"` // ISO 8601; "" is as long as it takes
	TagFilters []string `json:"tagFilters,omitempty"`
	Platforms  []string `json:"platforms,omitempty"` // of indexes only what is for these; none is all
	Username   string   `json:"username,omitempty"`  // "" is as Docker's configuration says
	CA         string   `json:"ca,omitempty"`        // certificates, PEM, that the source may use beside the machine's
}

// SpecOf reads what was decided for a rule.
func SpecOf(rule metadb.MirrorRule) (v Spec, err error) {
	if err := json.Unmarshal(rule.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read mirror rule %s: %w", rule.Name, err)
	}
	return v, nil
}

// Check returns an error unless everything in s can be read.
func (s Spec) Check() error {
	if _, err := ParseLocation(s.Source); err != nil {
		return err
	}
	if err := oci.CheckRepository(s.Repository); err != nil {
		return fmt.Errorf("repository %.100q: %w", s.Repository, err)
	}
	if _, err := scheduleOf(s); err != nil {
		return err
	}
	if _, err := subscription.ParseTags(s.TagFilters, 0); err != nil {
		return err
	}
	if _, err := subscription.ParsePlatforms(s.Platforms); err != nil {
		return err
	}
	_, err := newTransport(s.CA)
	return err
}

// A Location is a repository of another registry.
type Location struct {
	Address    string // of the registry: its scheme and host
	Repository string
}

// dockerHub is where the registry is that everybody calls docker.io.
const dockerHub = "registry-1.docker.io"

// ParseLocation reads HOST/REPOSITORY, which is reached over TLS, or
// http://HOST/REPOSITORY, which is not. docker.io is known by that name, and
// its official images by their short names.
func ParseLocation(text string) (Location, error) {
	i, err := parse(text)
	if err == nil && i.reference() != "" {
		err = fmt.Errorf("source %.200q: want a repository, without a tag or a digest", text)
	}
	return i.Location, err
}

// An Image is an image of another registry. Of both, the digest says which it is.
type Image struct {
	Location
	Tag    string        // "" of an image that has only a digest
	Digest digest.Digest // "" if only the tag is given
}

// reference is what the registry is asked for.
func (i Image) reference() string { return cmp.Or(string(i.Digest), i.Tag) }

// ParseImage reads HOST/REPOSITORY[:TAG][@DIGEST], as [ParseLocation] reads
// what is before the tag. Without a tag and a digest, the tag is latest.
func ParseImage(text string) (Image, error) {
	i, err := parse(text)
	if i.reference() == "" {
		i.Tag = "latest"
	}
	return i, err
}

// errCredentials does not repeat what it refuses.
var errCredentials = errors.New("credentials do not belong in the source: " +
	"use --username and --password-stdin; a digest is @sha256:HEX")

func parse(text string) (Image, error) {
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
			"source %.200q: %.20q is no protocol of a registry: want https or http", text, scheme)
	}
	r, err := oci.ParseReference(rest)
	if err != nil {
		return Image{}, fmt.Errorf("source %.200q: %w", text, err)
	}
	if r.Host == "" {
		return Image{}, fmt.Errorf(
			"source %.200q: it names no registry: want HOST/REPOSITORY, as in docker.io/library/alpine", text)
	}
	if r.Host == "docker.io" || r.Host == "index.docker.io" {
		r.Host = dockerHub
		if !strings.Contains(r.Repository, "/") {
			r.Repository = "library/" + r.Repository
		}
	}
	return Image{Location{Address: scheme + "://" + r.Host, Repository: r.Repository}, r.Tag, r.Digest}, nil
}

// SourceName is the name of a rule's items among those of other sources.
func SourceName(rule string) string { return "mirror/" + rule }
