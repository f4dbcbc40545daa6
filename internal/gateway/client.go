package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

// A Client is the child's end of the gateway. It is safe for concurrent use.
type Client struct {
	connection ConnectionString
	http       *http.Client
}

// NewClient returns the client for a connection string. transport is nil for
// [NewTransport]'s.
func NewClient(c ConnectionString, transport http.RoundTripper) *Client {
	if transport == nil {
		transport = NewTransport()
	}
	return &Client{connection: c, http: &http.Client{Transport: transport}}
}

// NewTransport returns a transport for a bad link: several connections of
// their own, since one HTTP/2 connection is one TCP flow, that are kept open
// between polls and dropped when the other end no longer answers.
func NewTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{
			Timeout:         30 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4},
		}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 2 * maxWait, // a poll is held for maxWait
		IdleConnTimeout:       10 * time.Minute,
		MaxIdleConnsPerHost:   32,
		Protocols:             protocols,
		DisableCompression:    true, // the gateway has its own, and blobs do not shrink
	}
}

// Activate binds the instance to the connected registry.
func (c *Client) Activate(ctx context.Context, q ActivateRequest) (*ActivateResponse, error) {
	q.Name, q.Capability = c.connection.Name, Capability
	a := &ActivateResponse{}
	return a, c.call(ctx, PathActivate, q, a)
}

// Poll asks for what changed.
func (c *Client) Poll(ctx context.Context, q PollRequest) (*PollResponse, error) {
	q.Name, q.Capability = c.connection.Name, Capability
	a := &PollResponse{}
	return a, c.call(ctx, PathPoll, q, a)
}

// Snapshot asks for a page of everything; after is the last page's Next.
func (c *Client) Snapshot(ctx context.Context, after string) (*SnapshotPage, error) {
	a := &SnapshotPage{}
	return a, c.call(ctx, PathSnapshot, SnapshotRequest{Name: c.connection.Name, After: after}, a)
}

// Plan streams what is needed for want to fn, and returns after the last
// entry, or with the first error.
func (c *Client) Plan(ctx context.Context, want, have []Want, fn func(PlanEntry) error) error {
	resp, err := c.post(ctx, PathPlan, PlanRequest{Name: c.connection.Name, Want: want, Have: have})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, closer, err := decompress(resp.Body, resp.Header.Get(headerEncoding))
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	defer closer()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxPlanEntry)
	for entries := 0; lines.Scan(); entries++ {
		var e PlanEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("plan: entry %d: %w", entries, err)
		}
		if e.End != nil {
			if e.End.Entries != entries {
				return fmt.Errorf("plan: %d of %d entries came", entries, e.End.Entries)
			}
			return nil
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return fmt.Errorf("plan: %w", io.ErrUnexpectedEOF)
}

// Blob opens length bytes of a blob from offset on, or all to its end where
// length is negative. The second result is where the body begins: at offset,
// or at 0 where something on the way knows no ranges.
func (c *Client) Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error) {
	path := c.connection.URL() + "/v2/" + (&url.URL{Path: repository}).EscapedPath() + "/blobs/" + string(d)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	r.SetBasicAuth(c.connection.Token, c.connection.Password)
	span := fmt.Sprintf("bytes=%d-", offset)
	if length >= 0 {
		span += strconv.FormatInt(offset+length-1, 10)
	}
	r.Header.Set("Range", span)
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, scrub(err))
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		start, _, err := oci.ParseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			resp.Body.Close()
			return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
		}
		return resp.Body, start, nil
	case http.StatusOK:
		return resp.Body, 0, nil
	}
	defer resp.Body.Close()
	return nil, 0, fmt.Errorf("open blob %s: %w", d, blobError(resp))
}

// blobError is the registry's own error, with the pause that it asks for.
func blobError(resp *http.Response) error {
	var body struct {
		Errors []struct {
			Code    oci.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"errors"`
	}
	e := &oci.Error{Code: "UNKNOWN", Message: resp.Status, Status: resp.StatusCode}
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&body)
	if err == nil && len(body.Errors) > 0 {
		e.Code, e.Message = body.Errors[0].Code, body.Errors[0].Message
	}
	return later(resp, e)
}

// call sends a request and reads its answer.
func (c *Client) call(ctx context.Context, path string, q, a any) error {
	resp, err := c.post(ctx, path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := decode(resp.Body, resp.Header.Get(headerEncoding), maxResponse, a); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection is kept
	return nil
}

// post sends a request, and returns an answer of 200 or an error.
func (c *Client) post(ctx context.Context, path string, q any) (*http.Response, error) {
	body, encoding, err := encode(q)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.connection.URL()+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	r.SetBasicAuth(c.connection.Token, c.connection.Password)
	r.Header.Set("Content-Type", typeJSON)
	r.Header.Set("Accept-Encoding", encodingZstd)
	if encoding != "" {
		r.Header.Set(headerEncoding, encoding)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, scrub(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, fmt.Errorf("ask %s: %w", path, answerError(resp))
}

// scrub drops the URL from an error of net/http: the message has the path
// already, and a proxy's URL may hold a password.
func scrub(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// AnswerError is a parent's refusal, in its words. It is one of this
// package's errors to [errors.Is].
type AnswerError struct {
	Problem
	kind error
}

// Error returns the parent's words.
func (e *AnswerError) Error() string { return e.Detail }

// Unwrap returns the error of this package that the refusal stands for.
func (e *AnswerError) Unwrap() error { return e.kind }

func answerError(resp *http.Response) error {
	e := &AnswerError{}
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&e.Problem)
	if err != nil || e.Detail == "" {
		e.Problem = Problem{Title: http.StatusText(resp.StatusCode), Detail: "the parent answered " + resp.Status}
	}
	e.Status = resp.StatusCode
	e.kind = known[e.Code]
	if e.kind == nil && resp.StatusCode == http.StatusUnauthorized {
		e.kind = ErrUnauthorized
	}
	return later(resp, e)
}

// later adds the pause that an answer asks for, in Retry-After's seconds.
func later(resp *http.Response, err error) error {
	seconds, convErr := strconv.Atoi(resp.Header.Get("Retry-After"))
	if convErr != nil || seconds <= 0 {
		return err
	}
	return &pausedError{err, time.Duration(min(seconds, 3600)) * time.Second}
}

// pausedError is an error of a parent that says when to come back.
type pausedError struct {
	error
	pause time.Duration
}

// Unwrap returns the error itself.
func (e *pausedError) Unwrap() error { return e.error }

// RetryAfter returns how long the parent wants not to be asked.
func (e *pausedError) RetryAfter() time.Duration { return e.pause }
