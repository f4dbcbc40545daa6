package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ferry/internal/outbound"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// How long an endpoint to which no connection was possible is tried only after the others. The pause
// doubles with each failure.
const (
	endpointPause    = time.Minute
	endpointMaxPause = 10 * time.Minute
)

// endpoints are the addresses of one parent, the preferred one first. A poll begins with the first
// that did not fail lately, so that the child returns to the preferred one when that answers again.
// Every other request begins with the endpoint that was connected to last.
type endpoints struct {
	all []*endpoint

	mu      sync.Mutex
	current *endpoint // connected to last
}

// An endpoint is one address of a parent.
type endpoint struct {
	url  string
	http *http.Client

	// Guarded by endpoints.mu.
	failures int       // connections that failed, in a row
	retryAt  time.Time // until then it is tried after the others
}

// newEndpoints returns the endpoints of a connection string, which share a transport.
func newEndpoints(c wire.ConnectionString, transport http.RoundTripper) *endpoints {
	e := &endpoints{}
	for _, address := range c.Endpoints() {
		one := c.At(address)
		home := &url.URL{Scheme: one.Protocol, Host: one.Host()}
		e.all = append(e.all, &endpoint{url: one.URL(), http: outbound.NewClient(home, transport)})
	}
	e.current = e.all[0]
	return e
}

// url returns the address that was connected to last.
func (e *endpoints) url() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current.url
}

// A choice says with which endpoint a request begins.
type choice int

const (
	keepEndpoint choice = iota // with the one that was connected to last
	bestEndpoint               // with the first that did not fail lately
)

// order returns all endpoints in the order in which a request tries them.
func (e *endpoints) order(by choice) []*endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	rank := func(x *endpoint) int {
		switch {
		case by == keepEndpoint && x == e.current:
			return 0
		case !now.Before(x.retryAt):
			return 1
		}
		return 2
	}
	all := slices.Clone(e.all)
	slices.SortStableFunc(all, func(x, y *endpoint) int { return cmp.Compare(rank(x), rank(y)) })
	return all
}

func (e *endpoints) succeeded(x *endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, x.failures, x.retryAt = x, 0, time.Time{}
}

func (e *endpoints) failed(x *endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.retryAt = time.Now().Add(min(endpointPause<<min(x.failures, 10), endpointMaxPause))
	x.failures++
}

// send sends the request that make returns for an address. If no connection to an endpoint is
// possible, nothing was sent, and the next endpoint gets the request. So does it if a proxy answers
// that it does not reach the parent.
func (e *endpoints) send(
	ctx context.Context, by choice, make func(ctx context.Context, url string) (*http.Request, error),
) (*http.Response, error) {
	order := e.order(by)
	var failure error
	for i, x := range order {
		var connected atomic.Bool
		trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
		r, err := make(httptrace.WithClientTrace(ctx, trace), x.url)
		if err != nil {
			return nil, err
		}
		resp, err := x.http.Do(r)
		last := i == len(order)-1
		switch {
		case err != nil && connected.Load(), err != nil && len(order) == 1:
			return nil, retry.WithoutURL(err)
		case err != nil:
			e.failed(x)
			failure = addFailure(failure, x, err)
		case isUnreached(resp) && !last:
			resp.Body.Close()
			e.failed(x)
			failure = addFailure(failure, x, fmt.Errorf("a proxy answers %s", resp.Status))
		default:
			e.succeeded(x)
			return resp, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failure
}

// isUnreached reports whether an answer is of a proxy that does not reach the parent.
func isUnreached(resp *http.Response) bool {
	return resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout
}

// addFailure returns the error for all endpoints that failed.
func addFailure(before error, x *endpoint, err error) error {
	err = fmt.Errorf("%s: %w", x.url, retry.WithoutURL(err))
	if before == nil {
		return err
	}
	return fmt.Errorf("%w; %w", before, err)
}
