// Package subscription says which content a connected registry gets: tags by
// their names and by how new they are, children of an index by their platforms;
// and which repositories come first. It is pure, and knows of no registry.
package subscription

import (
	_ "crypto/sha512" // no digest of this algorithm is valid without
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Limits on tags.
const (
	MaxFilters  = 50   // how many there are
	MaxFilter   = 512  // how long one is, in bytes
	MaxKeepLast = 1000 // how many tags keep-last keeps at most
)

// Tags says which tags of a repository are selected. The zero value is all.
type Tags struct {
	filters  []func(tag string) bool
	keepLast int
}

// ParseTags returns a selection of the tags that one of the filters matches, of
// every tag if there are none, and of these of the keepLast newest in each
// repository; 0 is all of them. A filter is
//
//   - /REGEXP/, which matches anywhere in the tag, unless it has ^ and $;
//   - a range of versions, where it begins with one of < > = ~ ^, as
//     ">=1.4 <3 || ^5"; a tag 1.4.0_b is version 1.4.0+b, as Helm has it;
//   - else a pattern in which * is any text, ? any character and [a-z] one of
//     a few.
func ParseTags(filters []string, keepLast int) (Tags, error) {
	if keepLast < 0 || keepLast > MaxKeepLast {
		return Tags{}, fmt.Errorf("cannot keep the last %d tags: want 1 to %d, or 0 for all", keepLast, MaxKeepLast)
	}
	parsed, err := parseAll("tag filter", "tag filters", MaxFilters, filters, parseFilter)
	if err != nil {
		return Tags{}, err
	}
	return Tags{parsed, keepLast}, nil
}

func parseFilter(text string) (func(string) bool, error) {
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) > MaxFilter:
		return nil, errors.New("it is too long")
	case text[0] == '/':
		if len(text) < 3 || !strings.HasSuffix(text, "/") {
			return nil, errors.New("a regular expression is between two slashes, as /^v[0-9]+$/")
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
	return func(tag string) bool {
		ok, err := path.Match(text, tag)
		return ok && err == nil
	}, nil
}

// All reports whether every tag is selected.
func (s Tags) All() bool { return len(s.filters) == 0 && s.keepLast == 0 }

// KeepLast is how many of the tags that match are kept in each repository;
// 0 is all.
func (s Tags) KeepLast() int { return s.keepLast }

// Matches reports whether a filter matches a tag's name, however new it is.
func (s Tags) Matches(tag string) bool {
	for _, f := range s.filters {
		if f(tag) {
			return true
		}
	}
	return len(s.filters) == 0
}

var subject = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(\.[a-z]+)?$`)

// Subject returns the digest of the manifest that a tag like
// sha256-<hex>.sig, as signers make it, belongs to. Such a tag goes along
// with what it belongs to, and is not one of those that keep-last counts.
func Subject(tag string) (digest.Digest, bool) {
	m := subject.FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}
	d := digest.Digest(m[1] + ":" + m[2])
	return d, d.Validate() == nil
}
