package oci

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxLink is the length of the longest accepted Link header, in bytes.
const maxLink = 16 << 10

// NextPage returns the query of the next page according to the Link headers (RFC
// 8288) of a response; nil if this is the last page. The next page is always at the
// same path. The rest of the link is ignored, because a registry behind a proxy often
// does not know its own address.
//
// An invalid header is an error. Otherwise a list that ends there would seem complete.
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
				return nil, fmt.Errorf("read Link %q: it names two different next pages", clip(header))
			}
			next = query
		}
	}
	return next, nil
}

func pageQuery(target string) (url.Values, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("its target is not a URL")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of its target cannot be read")
	}
	if len(query) == 0 {
		return nil, errors.New("its target has no query to name the page")
	}
	return query, nil
}

// nextTargets returns the targets of those links in a header that have the relation
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

// A linkScanner is the part of a Link header that was not parsed yet.
type linkScanner string

// skip drops all leading characters that are in set.
func (s *linkScanner) skip(set string) { *s = linkScanner(strings.TrimLeft(string(*s), set)) }

// take returns the text before the first character that is in set, and drops it.
func (s *linkScanner) take(set string) string {
	text := string(*s)
	if i := strings.IndexAny(text, set); i >= 0 {
		text = text[:i]
	}
	*s = (*s)[len(text):]
	return text
}

// accept drops the first character if it is c, and reports whether it was.
func (s *linkScanner) accept(c byte) bool {
	found := *s != "" && (*s)[0] == c
	if found {
		*s = (*s)[1:]
	}
	return found
}

// link parses one link, and returns its target and its relations. If there are
// several rel parameters, the first one counts (RFC 8288, section 3.3).
func (s *linkScanner) link() (target, rel string, err error) {
	if !s.accept('<') {
		return "", "", errors.New("a link does not begin with '<'")
	}
	target = s.take(">")
	if !s.accept('>') {
		return "", "", errors.New("a link's '>' is missing")
	}
	for found := false; ; {
		s.skip(" \t")
		if *s == "" || (*s)[0] == ',' {
			return target, rel, nil
		}
		if !s.accept(';') {
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

// parameter parses NAME, NAME=TOKEN or NAME="TEXT". A value without quotes extends to
// the next white space, ',' or ';', because many servers omit quotes that the RFC
// requires.
func (s *linkScanner) parameter() (name, value string, err error) {
	s.skip(" \t")
	name = s.take(" \t=;,<>\"")
	s.skip(" \t")
	if !s.accept('=') {
		return name, "", nil
	}
	s.skip(" \t")
	if !s.accept('"') {
		return name, s.take(" \t;,<>\""), nil
	}
	var text strings.Builder
	for {
		text.WriteString(s.take(`"\`))
		switch {
		case s.accept('"'):
			return name, text.String(), nil
		case s.accept('\\') && *s != "":
			text.WriteByte((*s)[0])
			*s = (*s)[1:]
		default:
			return "", "", errors.New("a quoted string is not closed")
		}
	}
}
