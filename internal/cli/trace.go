package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"ferry/internal/terminal"
)

// A tracer writes the requests of a client: --verbose and --debug.
type tracer struct {
	next   http.RoundTripper
	out    io.Writer
	full   bool   // with headers and bodies
	secret string // never written; "" is none
}

// RoundTrip implements [http.RoundTripper].
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	started := time.Now()
	if t.full {
		var body []byte
		if req.Body != nil && req.GetBody != nil {
			if again, err := req.GetBody(); err == nil {
				body, _ = io.ReadAll(again) // it is in memory
			}
		}
		t.write("> ", req.Method+" "+req.URL.String(), req.Header, body)
	}
	resp, err := t.next.RoundTrip(req)
	took := time.Since(started).Round(time.Millisecond)
	if err != nil {
		t.line("", fmt.Sprintf("%s %s: %v after %s", req.Method, req.URL, err, took))
		return nil, err
	}
	if !t.full {
		t.line("", fmt.Sprintf("%s %s: %s in %s", req.Method, req.URL, resp.Status, took))
		return resp, nil
	}
	var body []byte
	if kind := resp.Header.Get("Content-Type"); strings.Contains(kind, "json") {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	}
	t.write("< ", fmt.Sprintf("%s in %s", resp.Status, took), resp.Header, body)
	return resp, err
}

// write writes a message with its headers and its body, if that is JSON.
func (t *tracer) write(mark, first string, header http.Header, body []byte) {
	t.line(mark, first)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		text := strings.Join(header[name], ", ")
		if secretHeader.MatchString(name) {
			text = masked
		}
		t.line(mark, name+": "+text)
	}
	if len(body) == 0 {
		return
	}
	var value any
	if json.Unmarshal(body, &value) != nil {
		t.line(mark, fmt.Sprintf("(%d bytes that are not JSON)", len(body)))
		return
	}
	text, err := json.Marshal(mask(value, false))
	if err == nil {
		t.line(mark, string(text))
	}
}

// line writes a line without the secret.
func (t *tracer) line(mark, text string) {
	if t.secret != "" {
		text = strings.ReplaceAll(text, t.secret, masked)
	}
	fmt.Fprintln(t.out, mark+terminal.Printable(text))
}

const masked = "***"

var (
	secretHeader = regexp.MustCompile(`(?i)^(authorization|cookie|set-cookie|.*(token|secret|key).*)$`)
	secretMember = regexp.MustCompile(`(?i)password|passphrase|secret|connection_?string|(^|_)token$|^value$|` +
		`api_?key|private_?key|^key$|^code$|credential`)
)

// mask replaces the texts in a plain value that may be secret, by the names of their members.
func mask(v any, secret bool) any {
	switch v := v.(type) {
	case string:
		if secret && v != "" {
			return masked
		}
	case []any:
		for i := range v {
			v[i] = mask(v[i], secret)
		}
	case map[string]any:
		for name := range v {
			_, isText := v[name].(string)
			_, isList := v[name].([]any)
			hides := secretMember.MatchString(name) && (isText || isList && name != "value")
			v[name] = mask(v[name], hides)
		}
	}
	return v
}
