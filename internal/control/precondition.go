package control

import (
	"strconv"
	"strings"

	"ferry/internal/api"
)

// A Precondition is what a caller says of the resource that it means to
// write (RFC 9110, section 13.1). The zero value asks for nothing.
type Precondition struct {
	Match     string // If-Match
	NoneMatch string // If-None-Match
}

// Check returns an error unless the resource, at its version where it exists,
// is what the caller said.
func (p Precondition) Check(exists bool, version int64, what, name string) error {
	if exists && p.NoneMatch != "" && matches(p.NoneMatch, version) {
		return Refuse(api.CodePrecondition, "the %s '%s' exists already", what, name)
	}
	if p.Match != "" && (!exists || !matches(p.Match, version)) {
		return Refuse(api.CodePrecondition, "the %s '%s' is not what it was when you read it", what, name).
			WithHint("read it again, and make your change to what it is now")
	}
	return nil
}

// matches reports whether one of the tags of a header is the version's.
func matches(header string, version int64) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == ETag(version) {
			return true
		}
	}
	return false
}

// ETag is the entity tag of a resource's version.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
