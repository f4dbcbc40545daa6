package mirror

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"ferry/internal/oci"
)

// hostBackoff remembers Retry-After per host. All runs and imports share it, because a
// host sees them as one client. If the answer to an optional request, such as that for
// referrers, asks for a pause, then only optional requests wait: images must not.
type hostBackoff struct {
	now func() time.Time

	mu    sync.Mutex
	until map[hostRequests]time.Time
}

// hostRequests are the requests to a host that share a pause.
type hostRequests struct {
	host     string // with its port
	optional bool
}

// noteRetryAfter records the pause that the response to one of the requests asks for.
func (b *hostBackoff) noteRetryAfter(of hostRequests, resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := b.now()
	until := now.Add(oci.ParseRetryAfter(resp.Header.Get("Retry-After"), now))
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(now) && until.After(b.until[of]) {
		b.until[of] = until
	}
}

// left returns for how long no such request may be sent.
func (b *hostBackoff) left(of hostRequests) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.until[of].Sub(b.now())
	if left <= 0 {
		delete(b.until, of)
		return 0
	}
	return left
}

// A backoffError says that a request was not sent because its host asked for a
// pause.
type backoffError struct {
	hostRequests
	left time.Duration
}

// Error implements error.
func (e *backoffError) Error() string {
	return fmt.Sprintf("%s asks for a pause of another %s", e.host, e.left.Round(time.Second))
}

// RetryAfter returns the rest of the pause.
func (e *backoffError) RetryAfter() time.Duration { return e.left }

// A backoffTransport sends no request to a host that asked for a pause. Token
// endpoints and the targets of redirects are hosts of their own.
type backoffTransport struct {
	http.RoundTripper
	hosts    *hostBackoff
	optional bool // all its requests are optional
}

// RoundTrip implements [http.RoundTripper].
func (t backoffTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	own := hostRequests{req.URL.Host, t.optional}
	for _, of := range []hostRequests{{host: own.host}, own} {
		if left := t.hosts.left(of); left > 0 {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, &backoffError{of, left}
		}
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		t.hosts.noteRetryAfter(own, resp)
	}
	return resp, err
}
