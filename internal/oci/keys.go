package oci

import (
	"bytes"
	"encoding/json"
	"strings"
)

// fields are the names that a reader of a manifest may act on.
var fields = []struct {
	name   string
	nested bool // objects in its value have fields, too
}{
	{"schemaVersion", false}, {"mediaType", false}, {"artifactType", false}, {"annotations", false},
	{"config", true}, {"layers", true}, {"manifests", true}, {"subject", true}, // of manifests
	{"digest", false}, {"size", false}, {"urls", false}, {"data", false}, {"platform", true}, // of descriptors
	{"architecture", false}, {"os", false}, {"os.version", false}, {"os.features", false},
	{"variant", false}, {"features", false}, // of platforms
}

// checkKeys returns an error if a manifest, which is valid JSON, has a field of
// the specification twice in one object, or in another case. Readers differ in
// which of two they take, and encoding/json takes either case: a client and this
// registry could find different content in the same manifest.
func checkKeys(payload []byte) error {
	s := keyScanner{payload}
	return s.value(true)
}

// A keyScanner goes through valid JSON. It holds nothing of what it has seen.
type keyScanner struct {
	text []byte // that is left
}

// value goes through the next value. check is that its objects have fields.
func (s *keyScanner) value(check bool) error {
	switch s.peek() {
	case '{':
		return s.object(check)
	case '[':
		s.text = s.text[1:]
		for s.peek() != ']' {
			if err := s.value(check); err != nil {
				return err
			}
		}
		s.text = s.text[1:]
	case '"':
		s.quoted()
	default: // a number, or a word
		if end := bytes.IndexAny(s.text, ",]} \t\r\n"); end >= 0 {
			s.text = s.text[end:]
		} else {
			s.text = nil
		}
	}
	return nil
}

func (s *keyScanner) object(check bool) error {
	s.text = s.text[1:]
	for seen := 0; s.peek() != '}'; {
		key, nested := s.quoted(), false
		if check {
			i, err := fieldOf(key)
			if err != nil {
				return err
			}
			if i >= 0 {
				if seen&(1<<i) != 0 {
					return ErrManifestInvalid.With("manifest has %s twice in the same object", fields[i].name)
				}
				seen |= 1 << i
				nested = fields[i].nested
			}
		}
		if err := s.value(nested); err != nil {
			return err
		}
	}
	s.text = s.text[1:]
	return nil
}

// fieldOf returns the place of a quoted key in fields, or -1.
func fieldOf(quoted []byte) (int, error) {
	for i, f := range fields { // without a copy, as it mostly is
		if string(quoted[1:len(quoted)-1]) == f.name {
			return i, nil
		}
	}
	var key string
	if err := json.Unmarshal(quoted, &key); err != nil {
		return -1, err
	}
	for i, f := range fields {
		switch {
		case key == f.name: // with escapes
			return i, nil
		case strings.EqualFold(key, f.name):
			return -1, ErrManifestInvalid.With("manifest has %q where the specification has %q", clip(key), f.name)
		}
	}
	return -1, nil
}

// peek returns the first byte of what follows, behind what separates it from
// what came before.
func (s *keyScanner) peek() byte {
	s.text = bytes.TrimLeft(s.text, ",: \t\r\n")
	return s.text[0]
}

// quoted returns the string that follows, in its quotes.
func (s *keyScanner) quoted() []byte {
	end := 1
	for s.text[end] != '"' {
		if s.text[end] == '\\' {
			end++
		}
		end++
	}
	text := s.text[:end+1]
	s.text = s.text[end+1:]
	return text
}
