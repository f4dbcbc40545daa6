package oci

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxLink is the longest Link header, in bytes, that is read.
const maxLink = 16 << 10

// NextPage returns the query of the page that an answer's Link headers (RFC
// 8288) say comes next; nil if this is the last page. The rest of the link is
// not used, because a registry behind a proxy often does not know its own
// address: the next page is another page of the same listing.
//
// A header that cannot be read is an error: a listing that ended with it would
// be taken for the whole.
func NextPage(headers []string) (url.Values, error) {
	var next url.Values
	for _, header := range headers {
		targets, err := nextTargets(header)
		if err != nil {
			return nil, fmt.Errorf("read Link %q: %w", clip(header), err)
		}
		for _, target := range targets {
			query, err := pageQuery(target)
			if err != nil {
				return nil, fmt.Errorf("read Link %q: %w", clip(header), err)
			}
			if next != nil && next.Encode() != query.Encode() {
				return nil, fmt.Errorf("read Link %q: two different pages come next", clip(header))
			}
			next = query
		}
	}
	return next, nil
}

func pageQuery(target string) (url.Values, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("its target is no URL")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of its target cannot be read")
	}
	if len(query) == 0 {
		return nil, errors.New("its target has no query, which would name the page")
	}
	return query, nil
}

// nextTargets returns the targets of the links of a header whose relation is
// "next".
func nextTargets(header string) (targets []string, err error) {
	if len(header) > maxLink {
		return nil, fmt.Errorf("it is longer than %d bytes", maxLink)
	}
	s := linkScanner(header)
	for {
		s.skip(" \t,")
		if s == "" {
			return targets, nil
		}
		target, rel, err := s.link()
		if err != nil {
			return nil, err
		}
		for relation := range strings.FieldsSeq(rel) {
			if strings.EqualFold(relation, "next") {
				targets = append(targets, target)
				break
			}
		}
	}
}

// A linkScanner is the rest of a Link header.
type linkScanner string

// skip drops the characters of set from the front.
func (s *linkScanner) skip(set string) { *s = linkScanner(strings.TrimLeft(string(*s), set)) }

// take returns what stands before the first character of set, and drops it.
func (s *linkScanner) take(set string) string {
	text := string(*s)
	if i := strings.IndexAny(text, set); i >= 0 {
		text = text[:i]
	}
	*s = (*s)[len(text):]
	return text
}

// next drops the character c from the front, and reports whether it was there.
func (s *linkScanner) next(c byte) bool {
	found := *s != "" && (*s)[0] == c
	if found {
		*s = (*s)[1:]
	}
	return found
}

// link reads one link: its target, and its relations. Of several rel
// parameters the first counts (RFC 8288, section 3.3).
func (s *linkScanner) link() (target, rel string, err error) {
	if !s.next('<') {
		return "", "", errors.New("a link does not begin with '<'")
	}
	target = s.take(">")
	if !s.next('>') {
		return "", "", errors.New("a link's '>' is missing")
	}
	for found := false; ; {
		s.skip(" \t")
		if *s == "" || (*s)[0] == ',' {
			return target, rel, nil
		}
		if !s.next(';') {
			return "", "", errors.New("a link's parameters do not begin with ';'")
		}
		name, value, err := s.parameter()
		if err != nil {
			return "", "", err
		}
		if strings.EqualFold(name, "rel") && !found {
			found, rel = true, value
		}
	}
}

// parameter reads NAME, NAME=TOKEN or NAME="TEXT". Of a value without quotes,
// everything up to the next white space, ',' or ';' is taken: many servers
// leave the quotes out where they are needed.
func (s *linkScanner) parameter() (name, value string, err error) {
	s.skip(" \t")
	name = s.take(" \t=;,<>\"")
	s.skip(" \t")
	if !s.next('=') {
		return name, "", nil
	}
	s.skip(" \t")
	if !s.next('"') {
		return name, s.take(" \t;,<>\""), nil
	}
	var text strings.Builder
	for {
		text.WriteString(s.take(`"\`))
		switch {
		case s.next('"'):
			return name, text.String(), nil
		case s.next('\\') && *s != "":
			text.WriteByte((*s)[0])
			*s = (*s)[1:]
		default:
			return "", "", errors.New("a quoted text does not end")
		}
	}
}
