package oci

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter is the longest pause that a registry can ask for.
const maxRetryAfter = time.Hour

// ParseRetryAfter parses a Retry-After header, in seconds or as a date (RFC 9110,
// section 10.2.3), and returns the pause from now on: at most an hour, and 0 if the
// header is invalid.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	if header != "" && strings.Trim(header, "0123456789") == "" {
		seconds, err := strconv.ParseUint(header, 10, 64)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) { // err: the number overflows
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
