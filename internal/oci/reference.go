package oci

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Reference is an image name in the form [host[:port]/]repository[:tag][@digest].
type Reference struct {
	Host       string // with its port; may be ""
	Repository string
	Tag        string        // may be ""
	Digest     digest.Digest // may be ""
}

// maxReference is the maximum length of a reference, in bytes: the longest host name,
// repository, tag and digest, with the separators between them.
const maxReference = 253 + 6 + 1 + MaxRepositoryLength + 1 + MaxTagLength + 1 + len("sha512:") + 128

// hostPattern is a host name or a bracketed IPv6 address, with an optional port.
var hostPattern = regexp.MustCompile(`^(` + hostLabel + `(\.` + hostLabel + `)*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)

const hostLabel = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`

// ParseReference parses a reference. As in every client, the part before the first
// slash is a host if it contains a dot, a colon or a capital letter, or is
// "localhost". The error is [ErrNameInvalid], [ErrTagInvalid] or [ErrDigestInvalid].
func ParseReference(text string) (Reference, error) {
	var r Reference
	if len(text) > maxReference {
		return r, ErrNameInvalid.With("reference is longer than %d bytes", maxReference)
	}
	rest, d, hasDigest := strings.Cut(text, "@")
	if hasDigest {
		var err error
		if r.Digest, err = ParseDigest(d); err != nil {
			return Reference{}, err
		}
	}
	if first, behind, ok := strings.Cut(rest, "/"); ok && isHost(first) {
		if err := checkHost(first); err != nil {
			return Reference{}, err
		}
		r.Host, rest = first, behind
	}
	name, tag, hasTag := strings.Cut(rest, ":")
	if hasTag {
		if err := CheckTag(tag); err != nil {
			return Reference{}, err
		}
		r.Tag = tag
	}
	if err := CheckRepository(name); err != nil {
		return Reference{}, err
	}
	r.Repository = name
	return r, nil
}

func isHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

func checkHost(host string) error {
	port := 1
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		port, _ = strconv.Atoi(host[i+1:]) // hostPattern allows only digits
	}
	if !hostPattern.MatchString(host) || port < 1 || port > 65535 {
		return ErrNameInvalid.With("invalid registry address %q", clip(host))
	}
	return nil
}
