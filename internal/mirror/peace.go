package mirror

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"ferry/internal/oci"
)

// A peace is which hosts asked to be left alone, and until when. It holds for
// every run and import: who runs several rules is one client to a host.
type peace struct {
	now func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by host, with its port
}

// hear notes what an answer asks for.
func (p *peace) hear(resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := p.now()
	until := now.Add(oci.ParseRetryAfter(resp.Header.Get("Retry-After"), now))
	p.mu.Lock()
	defer p.mu.Unlock()
	if host := resp.Request.URL.Host; until.After(now) && until.After(p.until[host]) {
		p.until[host] = until
	}
}

// left is for how long host wants to be left alone still.
func (p *peace) left(host string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.until[host].Sub(p.now())
	if left <= 0 {
		delete(p.until, host)
		return 0
	}
	return left
}

// A peaceError is a request that was not made, for its host wants none yet.
type peaceError struct {
	host string
	left time.Duration
}

// Error implements error.
func (e *peaceError) Error() string {
	return fmt.Sprintf("%s asked to be left alone for another %s", e.host, e.left.Round(time.Second))
}

// RetryAfter returns how long.
func (e *peaceError) RetryAfter() time.Duration { return e.left }

// A peaceful transport leaves hosts alone that asked for it. Token endpoints
// and what a registry redirects to are hosts of their own.
type peaceful struct {
	http.RoundTripper
	peace *peace
}

// RoundTrip implements [http.RoundTripper].
func (t peaceful) RoundTrip(req *http.Request) (*http.Response, error) {
	if left := t.peace.left(req.URL.Host); left > 0 {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &peaceError{req.URL.Host, left}
	}
	return heard{t.RoundTripper, t.peace.hear}.RoundTrip(req)
}
