package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A Client is the child's side of the gateway. It is safe for concurrent use.
type Client struct {
	parent atomic.Pointer[parent]
	codec  *codec
	clock  atomic.Pointer[parentClock]
}

// A parent is the other end of the gateway.
type parent struct {
	connection wire.ConnectionString
	transport  http.RoundTripper
	endpoints  *endpoints
	version    *atomic.Int32 // of the protocol that both sides speak; 0 until the parent has answered
}

// A parentClock is the time on the parent's clock at a time here.
type parentClock struct{ parent, here time.Time }

// ParentTime returns the time on the parent's clock, reckoned from its last
// answer; zero if there was none. A step of the clock here does not change it.
func (c *Client) ParentTime() time.Time {
	d := c.clock.Load()
	if d == nil {
		return time.Time{}
	}
	return d.parent.Add(time.Since(d.here))
}

// NewClient returns the client for a connection string. A nil transport is a
// [NewTransport]. The client follows redirects of blobs only, by the rules of
// package outbound.
func NewClient(c wire.ConnectionString, transport http.RoundTripper) *Client {
	if transport == nil {
		transport = NewTransport()
	}
	client := &Client{codec: newCodec(maxResponse)}
	client.reach(c, transport)
	return client
}

// Connect makes the next request, and all later ones, use another connection string. It must
// be for the same connected registry.
func (c *Client) Connect(to wire.ConnectionString) {
	if p := c.parent.Load(); p.connection != to {
		c.reach(to, p.transport)
	}
}

// Trust makes the next request, and all later ones, trust these authorities. The client must
// have been made with a transport of net/http.
func (c *Client) Trust(roots *x509.CertPool) {
	p := c.parent.Load()
	transport := p.transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	c.reach(p.connection, transport)
}

func (c *Client) reach(to wire.ConnectionString, transport http.RoundTripper) {
	p := &parent{connection: to, transport: transport, version: new(atomic.Int32)}
	if had := c.parent.Load(); had != nil && had.connection.Endpoint == to.Endpoint &&
		had.connection.Protocol == to.Protocol {
		p.version = had.version
		if had.transport == transport {
			p.endpoints = had.endpoints
		}
	}
	if p.endpoints == nil {
		p.endpoints = newEndpoints(to, transport)
	}
	c.parent.Store(p)
}

// ParentURL returns the parent's address: of several, the one that was connected to last.
func (c *Client) ParentURL() string { return c.parent.Load().endpoints.url() }

// name returns the connected registry's name.
func (c *Client) name() string { return c.parent.Load().connection.Name }

// stall is how long the parent may send nothing before the request fails.
const stall = time.Minute

// maxIdle is how many connections to the parent are kept: those of a sync's
// downloads, its plans and the poll.
const maxIdle = 40

// NewTransport returns a transport for a bad link. It opens several HTTP/1.1
// connections, because one HTTP/2 connection is one TCP flow. Connections stay
// open between polls, and are closed if the other end no longer answers.
func NewTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: outbound.Dial(net.Dialer{
			Timeout: 30 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{
				Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4,
			},
		}),
		TLSHandshakeTimeout: 30 * time.Second,
		IdleConnTimeout:     10 * time.Minute,
		MaxIdleConnsPerHost: maxIdle,
		Protocols:           protocols,
		DisableCompression:  true, // the gateway has its own, and blobs do not shrink
	}
}

// Activate binds the instance to the connected registry.
func (c *Client) Activate(ctx context.Context, q wire.ActivateRequest) (*wire.ActivateResponse, error) {
	q.Name, q.Capability = c.name(), wire.Capability
	parent := c.parent.Load()
	a, err := call(ctx, c, parent, wire.PathActivate, q, activateResponses, stall)
	if err == nil {
		parent.version.Store(int32(commonCapability(a.Capability)))
	}
	return a, err
}

// Join exchanges the join token of the connection string for the password with the hash in q.
func (c *Client) Join(ctx context.Context, q wire.JoinRequest) error {
	q.Name, q.Capability = c.name(), wire.Capability
	_, err := call(ctx, c, c.parent.Load(), wire.PathJoin, q, joinResponses, stall)
	return err
}

// Poll sends the report, and asks for changes.
func (c *Client) Poll(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error) {
	q.Name, q.Capability = c.name(), wire.Capability
	parent := c.parent.Load()
	var body any = q
	if parent.version.Load() < 2 {
		body = pollRequest1(q)
	}
	a, err := call(ctx, c, parent, wire.PathPoll, body, pollResponses, time.Duration(q.WaitSeconds)*time.Second+stall)
	if err == nil {
		parent.version.Store(int32(commonCapability(a.Capability)))
	}
	return a, err
}

// The decoders of a parent's answers. They are only read.
var (
	joinResponses     = jsonlimit.New[wire.JoinResponse](maxResponseValues)
	activateResponses = jsonlimit.New[wire.ActivateResponse](maxResponseValues)
	pollResponses     = jsonlimit.New[wire.PollResponse](maxResponseValues)
	planEntries       = jsonlimit.New[wire.PlanEntry](maxPlanEntryValues)
	batchEntries      = jsonlimit.New[wire.BatchEntry](maxBatchEntry)
)

var (
	_ replication.Source = (*Client)(nil)
	_ download.Batcher   = (*Client)(nil)
)

// Plan implements [replication.Source].
func (c *Client) Plan(ctx context.Context, want, have []replication.Ref, fn func(replication.PlanEntry) error) error {
	q := wire.PlanRequest{
		Name: c.name(), Capability: wire.Capability, Want: wantsOf(want), Have: wantsOf(have), Locks: true,
	}
	resp, err := c.stream(ctx, wire.PathPlan, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := readPlan(resp.Body, fn); err != nil {
		return err
	}
	drain(resp.Body)
	return nil
}

// readPlan calls fn for each entry of a plan as soon as the entry is complete.
func readPlan(body io.Reader, fn func(replication.PlanEntry) error) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	for entries := 0; ; entries++ {
		e, err := readPlanEntry(lines)
		if err != nil {
			return fmt.Errorf("plan: entry %d: %w", entries, err)
		}
		if e.End != nil {
			if e.End.Entries != entries {
				return fmt.Errorf("plan: %d of %d entries came", entries, e.End.Entries)
			}
			return nil
		}
		if err := fn(planEntryOf(e)); err != nil {
			return err
		}
	}
}

// Blob opens length bytes of a blob from offset on, or all of the rest if length
// is negative. The second result is where the body begins: at offset, or at 0 if
// the parent or a proxy does not support ranges.
func (c *Client) Blob(
	ctx context.Context, repository string, d digest.Digest, offset, length int64,
) (io.ReadCloser, int64, error) {
	parent := c.parent.Load()
	path := "/v2/" + (&url.URL{Path: repository}).EscapedPath() + "/blobs/" + string(d)
	span := fmt.Sprintf("bytes=%d-", offset)
	if length >= 0 {
		span += strconv.FormatInt(offset+length-1, 10)
	}
	resp, err := parent.endpoints.send(ctx, keepEndpoint, func(ctx context.Context, url string) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err == nil {
			r.SetBasicAuth(parent.connection.Token, parent.connection.Password)
			r.Header.Set("Range", span)
		}
		return r, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
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
	if err := outbound.LinkError(resp); err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	return nil, 0, fmt.Errorf("open blob %s: %w", d, answerError(resp))
}

// call sends a request and reads its answer, which must begin within patience.
func call[A any](
	ctx context.Context, c *Client, parent *parent, path string, q any, answers *jsonlimit.Decoder[A],
	patience time.Duration,
) (*A, error) {
	resp, err := c.post(ctx, parent, bestEndpoint, path, q, patience)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = jsonlimit.ErrTooLarge
	}
	if err == nil {
		body, err = c.codec.plain(body, resp.Header.Get(headerEncoding))
	}
	a := new(A)
	if err == nil {
		_, err = answers.Unmarshal(body, a)
	}
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", path, err)
	}
	return a, nil
}

// drain reads the end of an answer, so that its connection can be used again.
func drain(body io.Reader) { io.Copy(io.Discard, io.LimitReader(body, 4<<10)) }

// stream is [Client.post] for an answer that is decompressed while it is read.
func (c *Client) stream(ctx context.Context, path string, q any) (*http.Response, error) {
	resp, err := c.post(ctx, c.parent.Load(), keepEndpoint, path, q, stall)
	if err != nil {
		return nil, err
	}
	plain, err := c.codec.decompress(resp.Body, resp.Header.Get(headerEncoding))
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("read answer of %s: %w", path, err)
	}
	resp.Body = plain
	return resp, nil
}

// post sends a request, and returns an answer of 200, or an error. The answer
// must begin within patience, and then never pause for longer than [stall].
func (c *Client) post(
	ctx context.Context, parent *parent, by choice, path string, q any, patience time.Duration,
) (*http.Response, error) {
	body, encoding, err := c.codec.encode(q)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	ctx, w := retry.Watch(ctx, patience)
	resp, err := parent.endpoints.send(ctx, by, func(ctx context.Context, url string) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.SetBasicAuth(parent.connection.Token, cmp.Or(parent.connection.Password, parent.connection.JoinToken))
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("Accept-Encoding", encodingZstd)
		if encoding != "" {
			r.Header.Set(headerEncoding, encoding)
		}
		return r, nil
	})
	if err != nil {
		w.Stop()
		return nil, fmt.Errorf("ask %s: %w", path, w.Cause(err))
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.clock.Store(&parentClock{date, time.Now()})
	}
	resp.Body = w.Body(resp.Body, stall)
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, fmt.Errorf("ask %s: %w", path, answerError(resp))
	}
	return resp, nil
}

// PollRequestOf returns the request for the changes since the engine's position.
// The zero position asks for every repository.
func PollRequestOf(p replication.Position) wire.PollRequest {
	q := wire.PollRequest{
		Feed: p.Feed, Subscription: p.Subscription, Cursor: p.Cursor, Pass: p.Pass, Locks: wire.LocksWanted,
	}
	if p.Locks {
		q.Locks = wire.LocksKnown
	}
	if p.Since != p.Cursor {
		q.Since = &p.Since
	}
	if page := p.NextPage(); page != nil {
		q.Page = &wire.Page{Repository: page.Repository, Seq: page.Seq, After: page.After}
	}
	return q
}

// maxLacking is how many items that the parent lacks itself are recorded.
const maxLacking = 50

// AnswerOf returns the engine's form of a parent's answer to a poll.
func AnswerOf(a *wire.PollResponse) replication.Answer {
	answer := replication.Answer{
		Feed: a.Feed, Subscription: a.Subscription, Cursor: a.Cursor,
		Restart: a.Restart, Head: a.Head, More: a.More, Watermarks: a.Watermarks, Locks: a.Locks,
	}
	for _, i := range a.Lacking[:min(len(a.Lacking), maxLacking)] {
		answer.Lacking = append(answer.Lacking, replication.MissingItem{
			Repository: i.Repository, Tag: i.Tag, Digest: i.Digest, Error: clip(i.Error),
		})
	}
	for _, l := range a.Listings {
		listing := replication.Listing{
			Repository: l.Repository, Seq: l.Seq, After: l.After, More: l.More,
			Short: l.Short, Gone: l.Gone, Count: l.Count, Sum: l.Sum, Locks: locksOf(l.Locks), LockSum: l.LockSum,
		}
		for _, i := range l.Items {
			listing.Items = append(listing.Items, replication.ListedItem{
				Tag: i.Tag, Digest: i.Digest, Part: i.Part, Locks: locksOf(i.Locks),
			})
		}
		answer.Listings = append(answer.Listings, listing)
	}
	return answer
}

// locksOf returns the locks that bits of the wire stand for. Bits of later builds are ignored.
func locksOf(bits int) storage.Locks {
	return storage.Locks(bits & int(storage.NoRead|storage.NoWrite|storage.NoDelete|storage.NoList))
}

// wantsOf returns the wire's form of references.
func wantsOf(refs []replication.Ref) []wire.Want {
	all := make([]wire.Want, len(refs))
	for i, ref := range refs {
		all[i] = wire.Want(ref)
	}
	return all
}

// planEntryOf returns the engine's form of an entry of a plan.
func planEntryOf(e wire.PlanEntry) (p replication.PlanEntry) {
	switch {
	case e.Blob != nil:
		p.Blob = &replication.PlanBlob{
			Ref:  replication.Ref{Repository: e.Blob.Repository, Digest: e.Blob.Digest},
			Size: e.Blob.Size, Data: e.Blob.Data,
			Batch: slices.Contains(e.Blob.FetchMethods, wire.FetchMethod{Kind: wire.FetchBatch}),
		}
	case e.Manifest != nil:
		p.Manifest = &replication.PlanManifest{
			Ref:       replication.Ref{Repository: e.Manifest.Repository, Digest: e.Manifest.Digest},
			MediaType: e.Manifest.MediaType, Payload: e.Manifest.Payload, OmittedChildren: e.Manifest.LeftOut,
		}
	case e.Missing != nil:
		p.Missing = &replication.PlanMissing{Ref: replication.Ref(e.Missing.Want), Reason: e.Missing.Reason}
	case e.Complete != nil:
		p.Complete = new(replication.Ref(*e.Complete))
	}
	return p
}
