package oci

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds how long a registry can keep its clients away.
const maxRetryAfter = time.Hour

// ParseRetryAfter reads a Retry-After header, seconds or a date (RFC 9110,
// section 10.2.3), and returns for how long after now a registry does not want
// to be asked: at most an hour, whatever it says, and 0 where it says nothing
// that can be read.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	if header != "" && strings.Trim(header, "0123456789") == "" {
		seconds, err := strconv.ParseUint(header, 10, 64)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) { // or more than a number holds
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
