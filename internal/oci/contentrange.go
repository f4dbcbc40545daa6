package oci

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseContentRange parses the Content-Range of a 206 response, such as
// "bytes 0-99/1234" or "bytes 0-99/*" (RFC 9110, section 14.4). start is the offset
// of the first byte, and end the offset after the last byte.
func ParseContentRange(header string) (start, end int64, err error) {
	span, ok := strings.CutPrefix(header, "bytes ")
	span, size, hasSize := strings.Cut(span, "/")
	start, end, err = parseSpan(span)
	ok = ok && hasSize && err == nil
	if size != "*" {
		n, err := parseOffset(size)
		ok = ok && err == nil && end <= n
	}
	if !ok {
		return 0, 0, fmt.Errorf("Content-Range %q is malformed", clip(header))
	}
	return start, end, nil
}

// CleanRange rewrites a Range header (RFC 9110, section 14.2) so that
// [net/http.ServeContent] handles it as the RFC demands. A unit other than bytes must
// be ignored, so the result is "", the whole content. A suffix of zero bytes ("-0")
// cannot be satisfied, so it becomes a range beyond the end of any content.
func CleanRange(header string) string {
	unit, specs, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return ""
	}
	all := strings.Split(specs, ",")
	for i, spec := range all {
		all[i] = strings.Trim(spec, " \t")
		if length, ok := strings.CutPrefix(all[i], "-"); ok && length != "" && strings.Trim(length, "0") == "" {
			all[i] = unsatisfiable
		}
	}
	return "bytes=" + strings.Join(all, ",")
}

// unsatisfiable is a range beyond the end of any content.
var unsatisfiable = strconv.FormatInt(math.MaxInt64, 10) + "-"

// ParseUploadRange parses the Content-Range of a chunk of an upload, such as "0-99"
// (distribution specification, "Pushing a blob in chunks"). start is the offset of
// the first byte, and end the offset after the last byte. The error is
// [ErrBlobUploadInvalid].
func ParseUploadRange(header string) (start, end int64, err error) {
	start, end, err = parseSpan(strings.TrimPrefix(header, "bytes "))
	if err != nil {
		return 0, 0, ErrBlobUploadInvalid.With("Content-Range %q: want <first>-<last>", clip(header))
	}
	return start, end, nil
}

func parseSpan(s string) (start, end int64, err error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, strconv.ErrSyntax
	}
	if start, err = parseOffset(first); err != nil {
		return 0, 0, err
	}
	if end, err = parseOffset(last); err != nil || end < start {
		return 0, 0, strconv.ErrSyntax
	}
	return start, end + 1, nil
}

// parseOffset parses a decimal number without a sign. The number fits 62 bits, so
// that adding one cannot overflow.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err
}
