package noderuntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// docker plans the files of Docker's daemon. It knows mirrors for docker.io only, sends them
// no password, and cannot connect to another host than an image's name says.
func (p *plan) docker(s *Settings) error {
	if name := s.caName(); name != "" {
		for _, host := range s.own() {
			file := filepath.Join("/etc/docker/certs.d", host, name)
			if err := p.create(file, s.CA, fileOptions{authority: true}); err != nil {
				return err
			}
		}
	}
	if s.Username != "" {
		p.note("the password is not written: docker login %s", s.host())
	}
	var insecure, mirrors []string
	if s.plainHTTP() {
		insecure = s.own()
	}
	for _, name := range s.Mirrors {
		if name != "docker.io" {
			p.note("Docker has no mirrors for %s, only for docker.io", name)
			continue
		}
		mirrors = []string{s.Endpoint}
		p.note("Docker sends no password to a mirror: allow anonymous pulls there, or it asks docker.io")
		if s.NoUpstream {
			p.note("Docker always asks docker.io after its mirrors")
		}
	}
	if insecure == nil && mirrors == nil {
		return nil
	}
	o := fileOptions{reload: true, hosts: s.own()}
	return p.edit(p.runtime.config, o, func(old []byte) (text []byte, err error) {
		text = old
		if len(bytes.TrimSpace(text)) == 0 {
			text = []byte("{}\n")
		}
		for _, list := range []struct {
			key    string
			values []string
		}{{"registry-mirrors", mirrors}, {"insecure-registries", insecure}} {
			for _, v := range slices.Backward(list.values) {
				if text, err = addToList(text, list.key, v); err != nil {
					return nil, err
				}
				var all map[string]any
				if err := json.Unmarshal(text, &all); err != nil {
					return nil, err
				}
				if values, _ := all[list.key].([]any); !slices.Contains(values, any(v)) {
					return nil, fmt.Errorf("%s is there twice, and Docker reads the last one", list.key)
				}
			}
		}
		return text, nil
	})
}

// addToList puts a value first in a list of a JSON object, and changes nothing else. It does
// nothing if the list has the value.
func addToList(text []byte, key, value string) ([]byte, error) {
	if !json.Valid(text) {
		return nil, errors.New("it is not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is not an object")
	}
	quoted, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	start, empty := dec.InputOffset(), !dec.More()
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if name != key {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return nil, err
			}
			continue
		}
		colon := dec.InputOffset()
		var list []string
		if err := dec.Decode(&list); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if slices.Contains(list, value) {
			return text, nil
		}
		end := dec.InputOffset()
		begin := colon + int64(bytes.IndexByte(text[colon:end], '['))
		if list == nil {
			return splice(text, end-int64(len("null")), end, "["+string(quoted)+"]"), nil
		}
		inside := text[begin+1:]
		space := inside[:len(inside)-len(bytes.TrimLeft(inside, " \t\r\n"))]
		if len(list) == 0 {
			return splice(text, begin, end, "["+string(quoted)+"]"), nil
		}
		return splice(text, begin+1, begin+1, string(space)+string(quoted)+","+separatorAfter(space)), nil
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	// It comes first, so that no other line gets or loses a comma.
	member := fmt.Sprintf("%q: [%s]", key, quoted)
	inside := text[start:]
	space := inside[:len(inside)-len(bytes.TrimLeft(inside, " \t\r\n"))]
	if empty {
		return splice(text, start, dec.InputOffset()-1, "\n  "+member+"\n"), nil
	}
	return splice(text, start, start, string(space)+member+","+separatorAfter(space)), nil
}

// separatorAfter returns the space before the value that was first: none if the values have
// a line each, because that value's own space follows.
func separatorAfter(space []byte) string {
	if len(space) == 0 {
		return " "
	}
	return ""
}

func splice(text []byte, begin, end int64, with string) []byte {
	return slices.Concat(text[:begin], []byte(with), text[end:])
}
