// Package oci implements the rules of the OCI specifications that need no I/O: names,
// digests, media types, references between manifests and blobs, ranges, and the errors
// of the distribution specification. All functions are pure, and safe to call with
// hostile input.
package oci

import (
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/terminal"
)

// Limits on names, in bytes. Clients accept repository names of this length, including
// the host name. The limit on tags is in the specification.
const (
	MaxRepositoryLength = 255
	MaxTagLength        = 128
)

// The patterns of the distribution specification, section "Pulling manifests".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// CheckRepository returns an error, which is [ErrNameInvalid], unless name is a valid
// repository name.
func CheckRepository(name string) error {
	if len(name) > MaxRepositoryLength {
		return ErrNameInvalid.With("repository name is longer than %d bytes", MaxRepositoryLength)
	}
	if !repositoryPattern.MatchString(name) {
		return ErrNameInvalid.With("invalid repository name %q", clip(name))
	}
	return nil
}

// CheckTag returns an error, which is [ErrTagInvalid], unless tag is a valid tag.
func CheckTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return ErrTagInvalid.With("invalid tag %q", clip(tag))
	}
	return nil
}

// ParseDigest returns s as a digest. Ferry supports sha256 and sha512, in lower-case
// hex. The error is [ErrDigestInvalid].
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

// IsDigest reports whether a manifest reference is a digest, valid or not, rather than
// a tag: tags contain no colon.
func IsDigest(reference string) bool { return strings.Contains(reference, ":") }

// clip shortens hostile input for an error message.
func clip(s string) string { return terminal.Excerpt(s, 80) }
