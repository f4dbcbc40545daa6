package mirror

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"ferry/internal/oci"
)

// hostBackoff remembers Retry-After per host. All runs and imports share it,
// because a host sees them as one client.
type hostBackoff struct {
	now func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by host, with its port
}

// note remembers the pause that an answer asks for.
func (b *hostBackoff) note(resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := b.now()
	until := now.Add(oci.ParseRetryAfter(resp.Header.Get("Retry-After"), now))
	b.mu.Lock()
	defer b.mu.Unlock()
	if host := resp.Request.URL.Host; until.After(now) && until.After(b.until[host]) {
		b.until[host] = until
	}
}

// left is for how long a host must not be asked.
func (b *hostBackoff) left(host string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.until[host].Sub(b.now())
	if left <= 0 {
		delete(b.until, host)
		return 0
	}
	return left
}

// A backoffError says that a request was not made because its host asked for a
// pause.
type backoffError struct {
	host string
	left time.Duration
}

// Error implements error.
func (e *backoffError) Error() string {
	return fmt.Sprintf("%s asked to be left alone for another %s", e.host, e.left.Round(time.Second))
}

// RetryAfter returns how long.
func (e *backoffError) RetryAfter() time.Duration { return e.left }

// A backoffTransport makes no request to a host that asked for a pause. Token
// endpoints and the targets of redirects are hosts of their own.
type backoffTransport struct {
	http.RoundTripper
	hosts *hostBackoff
}

// RoundTrip implements [http.RoundTripper].
func (t backoffTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if left := t.hosts.left(req.URL.Host); left > 0 {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &backoffError{req.URL.Host, left}
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		t.hosts.note(resp)
	}
	return resp, err
}
