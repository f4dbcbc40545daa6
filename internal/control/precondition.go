package control

import (
	"errors"
	"strconv"
	"strings"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// A Precondition is the caller's condition on the current version of a resource (RFC 9110, section
// 13.1). The zero value has no condition.
type Precondition struct {
	Match     string // If-Match
	NoneMatch string // If-None-Match
}

// check returns an error unless the resource meets the condition. version counts only if the
// resource exists.
func (p Precondition) check(exists bool, version int64, noun, name string) error {
	if exists && p.NoneMatch != "" && matches(p.NoneMatch, version) {
		return Refuse(api.CodePrecondition, "the %s '%s' exists already", noun, name).
			WithHint("take another name, or change that one; see ferry %s list", command(noun))
	}
	if p.Match != "" && (!exists || !matches(p.Match, version)) {
		return Refuse(api.CodePrecondition, "the %s '%s' has changed since you read it", noun, name).
			WithHint("read it again, and make your change to its new state")
	}
	return nil
}

// CheckPut returns an error unless a resource that is created or replaced meets the condition, and
// reports whether the resource exists. version and err are the result of reading it.
func (p Precondition) CheckPut(version int64, err error, noun, name string) (exists bool, _ error) {
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return false, err
	}
	return err == nil, p.check(err == nil, version, noun, name)
}

// CheckChange returns an error unless a resource that is changed or deleted exists and meets the
// condition. version and err are the result of reading it.
func (p Precondition) CheckChange(version int64, err error, noun, name string) error {
	if err != nil {
		return MapNotFound(err, noun, name)
	}
	return p.check(true, version, noun, name)
}

// matches reports whether a header contains the entity tag of the version, or *.
func matches(header string, version int64) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == ETag(version) {
			return true
		}
	}
	return false
}

// ETag returns the entity tag of a version.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
