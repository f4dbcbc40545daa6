package oci

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Reference names an image as people write it:
// [host[:port]/]repository[:tag][@digest].
type Reference struct {
	Host       string // with its port; "" where the text has none
	Repository string
	Tag        string        // "" where the text has none
	Digest     digest.Digest // "" where the text has none
}

// maxReference is the longest text, in bytes, that may be a reference: the
// longest host name, repository, tag and digest, with what divides them.
const maxReference = 253 + 6 + 1 + MaxRepositoryLength + 1 + MaxTagLength + 1 + len("sha512:") + 128

var hostPattern = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)

// ParseReference reads a reference. As every client does, it takes what
// stands before the first slash for a host where it has a dot, a colon, or a
// capital letter, or is "localhost". The error is [ErrNameInvalid],
// [ErrTagInvalid] or [ErrDigestInvalid].
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
		port, _ = strconv.Atoi(host[i+1:]) // the pattern holds it to digits
	}
	if !hostPattern.MatchString(host) || port < 1 || port > 65535 {
		return ErrNameInvalid.With("invalid registry address %q", clip(host))
	}
	return nil
}
