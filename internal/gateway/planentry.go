package gateway

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/wire"
)

// payloadMember begins the payload of a manifest in an entry of a plan. No text in an
// entry has these bytes, because quotes are escaped there.
const payloadMember = `"payload":"`

// readPlanEntry reads a line of a plan. If the line does not fit into the buffer of r, the
// payload is decoded while it is read, so that it is in memory once. The end of r is
// [io.ErrUnexpectedEOF].
func readPlanEntry(r *bufio.Reader) (e wire.PlanEntry, err error) {
	line, err := r.ReadSlice('\n')
	var payload []byte
	if errors.Is(err, bufio.ErrBufferFull) {
		line, payload, err = readLongEntry(r, bytes.Clone(line))
	} else if err == nil { // a longer line has no names of version 1
		line, err = fromVersion1(line, planRenames(), maxPlanEntry)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return e, err
	}
	if _, err = planEntries.Unmarshal(line, &e); err != nil || payload == nil {
		return e, err
	}
	if e.Manifest == nil || len(e.Manifest.Payload) > 0 {
		return e, errors.New("it has a payload, and no manifest that lacks one")
	}
	e.Manifest.Payload = payload
	return e, nil
}

// readLongEntry reads the rest of a line that begins with start. It returns the line, and
// apart from it the payload, if start has its beginning.
func readLongEntry(r *bufio.Reader, start []byte) (line, payload []byte, err error) {
	line, encoded, found := bytes.Cut(start, []byte(payloadMember))
	if found {
		text := &stringReader{start: encoded, r: r}
		if payload, err = decodePayload(text); err != nil {
			return nil, nil, err
		}
		line = append(append(line, payloadMember+`"`...), text.start...)
	}
	for {
		more, err := r.ReadSlice('\n')
		if line = append(line, more...); len(line) > maxPlanEntry {
			return nil, nil, jsonlimit.ErrTooLarge
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, payload, err
		}
	}
}

// decodePayload decodes a manifest from base64.
func decodePayload(text io.Reader) ([]byte, error) {
	payload := make([]byte, oci.MaxManifestSize+1)
	n, err := io.ReadFull(base64.NewDecoder(base64.StdEncoding, text), payload)
	switch {
	case err == nil:
		return nil, fmt.Errorf("manifest: %w", jsonlimit.ErrTooLarge)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, fmt.Errorf("payload: %w", err)
	case n < len(payload)/2:
		return bytes.Clone(payload[:n]), nil
	}
	return payload[:n], nil
}

// errCutOff is returned for a string without an end. It is not the error with which
// package base64 tells the end of the text.
var errCutOff = fmt.Errorf("the string is cut off: %w", io.ErrUnexpectedEOF)

// A stringReader reads a JSON string without escapes up to its closing quote.
type stringReader struct {
	start []byte // read from r already; after the quote it has the rest
	r     *bufio.Reader
	ended bool
}

// Read implements [io.Reader].
func (s *stringReader) Read(p []byte) (n int, err error) {
	if s.ended {
		return 0, io.EOF
	}
	have := s.start
	if len(have) == 0 {
		if _, err := s.r.Peek(1); err == io.EOF {
			return 0, errCutOff
		} else if err != nil {
			return 0, err
		}
		have, _ = s.r.Peek(s.r.Buffered()) // it succeeds for buffered bytes
	}
	text, _, found := bytes.Cut(have, []byte{'"'})
	n = copy(p, text)
	s.ended = found && n == len(text)
	used := n
	if s.ended {
		used++
	}
	if len(s.start) > 0 {
		s.start = s.start[used:]
	} else {
		_, err = s.r.Discard(used)
	}
	if n == 0 && s.ended {
		return 0, io.EOF
	}
	return n, err
}
