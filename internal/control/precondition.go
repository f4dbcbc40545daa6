package control

import (
	"errors"
	"strconv"
	"strings"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// A Precondition is what a caller says of the resource that it means to
// write (RFC 9110, section 13.1). The zero value asks for nothing.
type Precondition struct {
	Match     string // If-Match
	NoneMatch string // If-None-Match
}

// check returns an error unless the resource, at its version where it exists,
// is what the caller said.
func (p Precondition) check(exists bool, version int64, what, name string) error {
	if exists && p.NoneMatch != "" && matches(p.NoneMatch, version) {
		return Refuse(api.CodePrecondition, "the %s '%s' exists already", what, name)
	}
	if p.Match != "" && (!exists || !matches(p.Match, version)) {
		return Refuse(api.CodePrecondition, "the %s '%s' is not what it was when you read it", what, name).
			WithHint("read it again, and make your change to what it is now")
	}
	return nil
}

// CheckPut returns an error unless a resource that is created or replaced is what
// the caller said, and reports whether it exists. Reading it gave version and err.
func (p Precondition) CheckPut(version int64, err error, what, name string) (exists bool, _ error) {
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return false, err
	}
	return err == nil, p.check(err == nil, version, what, name)
}

// CheckChange returns an error unless a resource that is changed or deleted exists
// and is what the caller said. Reading it gave version and err.
func (p Precondition) CheckChange(version int64, err error, what, name string) error {
	if err != nil {
		return MapNotFound(err, what, name)
	}
	return p.check(true, version, what, name)
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
