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
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Limits on tags.
const (
	maxFilters      = 50   // how many there are
	maxFilterLength = 512  // how long one is, in bytes
	maxKeepLast     = 1000 // how many tags keep-last keeps at most
)

// Tags says which tags of a repository are selected. The zero value is all.
type Tags struct {
	include, exclude []tagFilter
	keepLast         int
}

// A tagFilter reports whether it matches a tag's name.
type tagFilter func(tag string) bool

// ParseTags returns a selection of the tags that one of the filters matches, or
// of every tag if none says what to include, without those that a filter
// excludes, wherever that stands in the list. Of these, it selects the keepLast
// newest in each repository; 0 is all of them. A filter is
//
//   - !FILTER, which excludes what FILTER matches;
//   - /REGEXP/, which matches anywhere in the tag, unless it has ^ and $;
//   - a range of versions, where it begins with one of < > = ~ ^, as
//     ">=1.4 <3 || ^5"; a tag 1.4.0_b is version 1.4.0+b, as Helm has it;
//   - else a pattern in which * is any text, ? any character and [a-z] one of
//     a few.
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

// patternCharacters are those that a tag or the syntax of a pattern has.
const patternCharacters = `*?[]^\` + "-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func parseFilter(text string) (tagFilter, error) {
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) > maxFilterLength:
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

// KeepLast is how many of the tags that match are kept in each repository;
// 0 is all.
func (s Tags) KeepLast() int { return s.keepLast }

// Matches reports whether the filters select a tag by its name, however new it is.
func (s Tags) Matches(tag string) bool {
	matches := func(f tagFilter) bool { return f(tag) }
	return (len(s.include) == 0 || slices.ContainsFunc(s.include, matches)) && !slices.ContainsFunc(s.exclude, matches)
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
