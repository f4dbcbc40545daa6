package oci

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseContentRange reads the header of a 206 answer, "bytes 0-99/1234" or
// "bytes 0-99/*" (RFC 9110, section 14.4), and returns the first byte's
// offset and that of the byte behind the last.
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

// CleanRange returns a Range header (RFC 9110, section 14.2) in the form that
// [net/http.ServeContent] reads as the RFC has it. "" is the whole content, also
// for a unit other than bytes, which must be ignored. The last zero bytes are
// nothing, and so a range beyond any content.
func CleanRange(header string) string {
	unit, specs, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return ""
	}
	all := strings.Split(specs, ",")
	for i, spec := range all {
		all[i] = strings.Trim(spec, " \t")
		if length, ok := strings.CutPrefix(all[i], "-"); ok && length != "" && strings.Trim(length, "0") == "" {
			all[i] = beyond
		}
	}
	return "bytes=" + strings.Join(all, ",")
}

// beyond is a range behind the end of any content.
var beyond = strconv.FormatInt(math.MaxInt64, 10) + "-"

// ParseUploadRange reads the Content-Range of an upload's chunk, "0-99"
// (distribution specification, "Pushing a blob in chunks"), and returns the
// first byte's offset and that of the byte behind the last. The error is
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

// parseOffset reads a decimal number without a sign, and leaves room for one more.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err
}
