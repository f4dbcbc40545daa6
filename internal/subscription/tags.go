// Package subscription decides which part of its parent's content a connected registry gets,
// and in which order: tags by name and age (tags.go, version.go), children of an index by
// platform (platform.go), repositories by priority (priority.go). It is pure: it uses no
// network, disk or clock.
package subscription

import (
	_ "crypto/sha512" // makes digests of this algorithm valid
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Limits on tag filters.
const (
	maxFilters      = 50   // per list
	maxFilterLength = 512  // in bytes
	maxKeepLast     = 1000 // tags
)

// Tags select tags of a repository. The zero value selects all.
type Tags struct {
	include, exclude []tagFilter
	keepLast         int
}

// A tagFilter reports whether it matches a tag's name.
type tagFilter func(tag string) bool

// ParseTags returns a selection of the tags that match a filter; without an including
// filter, all tags match. Excluding filters win, wherever they are in the list. Among the
// matching tags of each repository, it selects the keepLast newest; 0 selects all. A filter
// is one of:
//
//   - !FILTER, which excludes the tags that FILTER matches;
//   - /REGEXP/, which matches anywhere in the tag, unless it has ^ and $;
//   - a range of versions that begins with one of < > = ~ ^, such as ">=1.4 <3 || ^5"; a tag
//     1.4.0_b is version 1.4.0+b, as in Helm;
//   - a pattern in which * matches any text, ? any character and [a-z] a set of characters.
func ParseTags(filters []string, keepLast int) (Tags, error) {
	if keepLast < 0 || keepLast > maxKeepLast {
		return Tags{}, fmt.Errorf("cannot keep the last %d tags: want 1 to %d, or 0 for all", keepLast, maxKeepLast)
	}
	s := Tags{keepLast: keepLast}
	_, err := parseAll("tag filter", "tag filters", maxFilters, filters, func(text string) (tagFilter, error) {
		rest, excludes := strings.CutPrefix(text, "!")
		f, err := parseFilter(rest)
		if excludes {
			s.exclude = append(s.exclude, f)
		} else {
			s.include = append(s.include, f)
		}
		return f, err
	})
	if err != nil {
		return Tags{}, err
	}
	return s, nil
}

// patternCharacters are the characters of tags and of the syntax of patterns.
const patternCharacters = `*?[]^\` + "-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func parseFilter(text string) (tagFilter, error) {
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) > maxFilterLength:
		return nil, errors.New("it is too long")
	case text[0] == '/':
		if len(text) < 3 || !strings.HasSuffix(text, "/") {
			return nil, errors.New("a regular expression is between two slashes, such as /^v[0-9]+$/")
		}
		re, err := regexp.Compile(text[1 : len(text)-1])
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	case strings.ContainsRune("<>=~^", rune(text[0])):
		r, err := parseRange(text)
		if err != nil {
			return nil, err
		}
		return r.matches, nil
	}
	if _, err := path.Match(text, ""); err != nil {
		return nil, errors.New("its brackets or backslashes do not close")
	}
	if rest := strings.Trim(text, patternCharacters); rest != "" {
		return nil, fmt.Errorf("it matches nothing: no tag has a %.1q in its name", rest)
	}
	return func(tag string) bool {
		ok, err := path.Match(text, tag)
		return ok && err == nil
	}, nil
}

// All reports whether every tag is selected.
func (s Tags) All() bool { return len(s.include) == 0 && len(s.exclude) == 0 && s.keepLast == 0 }

// KeepLast returns how many matching tags of each repository are selected; 0 is all.
func (s Tags) KeepLast() int { return s.keepLast }

// Matches reports whether the filters match a tag. It does not apply KeepLast.
func (s Tags) Matches(tag string) bool {
	matches := func(f tagFilter) bool { return f(tag) }
	return (len(s.include) == 0 || slices.ContainsFunc(s.include, matches)) && !slices.ContainsFunc(s.exclude, matches)
}

var subject = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(\.[a-z]+)?$`)

// AttachedTo returns the digest of the manifest that a signature or attestation tag, such as
// sha256-<hex>.sig, belongs to. Such a tag is selected together with its subject, and
// KeepLast does not count it.
func AttachedTo(tag string) (digest.Digest, bool) {
	m := subject.FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}
	d := digest.Digest(m[1] + ":" + m[2])
	return d, d.Validate() == nil
}
