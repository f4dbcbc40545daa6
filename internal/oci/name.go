// Package oci holds the rules of the OCI specifications that need no I/O:
// names, digests, media types, what a manifest refers to, ranges, and the
// errors of the distribution specification. Everything here is pure and is
// safe to call with input from a hostile network.
package oci

import (
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/terminal"
)

// Limits on names, in bytes. A repository's is what clients accept together
// with a host name; a tag's is the specification's.
const (
	MaxRepositoryLength = 255
	MaxTagLength        = 128
)

// The patterns of the distribution specification, section "Pulling manifests".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// CheckRepository returns nil when name is a repository name, else an error
// that is [ErrNameInvalid].
func CheckRepository(name string) error {
	if len(name) > MaxRepositoryLength {
		return ErrNameInvalid.With("repository name is longer than %d bytes", MaxRepositoryLength)
	}
	if !repositoryPattern.MatchString(name) {
		return ErrNameInvalid.With("invalid repository name %q", clip(name))
	}
	return nil
}

// CheckTag returns nil when tag is a tag, else an error that is [ErrTagInvalid].
func CheckTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return ErrTagInvalid.With("invalid tag %q", clip(tag))
	}
	return nil
}

// ParseDigest returns s as a digest. Only sha256 and sha512 in lower-case hex
// are digests here; anything else is an error that is [ErrDigestInvalid].
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, hex, _ := strings.Cut(s, ":")
	want := 0
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		want = 64
	case digest.SHA512:
		want = 128
	default:
		return "", ErrDigestInvalid.With("digest %q: want sha256:<hex> or sha512:<hex>", clip(s))
	}
	if len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", ErrDigestInvalid.With("digest %q: want %d lower-case hex digits after %s:", clip(s), want, algorithm)
	}
	return digest.Digest(s), nil
}

// IsDigest reports whether a manifest reference is meant as a digest rather
// than a tag: no tag holds a colon.
func IsDigest(reference string) bool { return strings.Contains(reference, ":") }

// clip shortens hostile input before it goes into a message.
func clip(s string) string { return terminal.Excerpt(s, 80) }
