package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/outbox"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

var pushResponses = jsonlimit.New[wire.PushResponse](maxResponseValues)

var _ outbox.Parent = (*Client)(nil)

// Push sends the changes that clients made here.
func (c *Client) Push(ctx context.Context, q wire.PushRequest) (*wire.PushResponse, error) {
	q.Name, q.Capability = c.name(), wire.Capability
	return call(ctx, c, c.parent.Load(), wire.PathPush, q, pushResponses, stall)
}

// A v2Request is a request of the registry API of the parent.
type v2Request struct {
	method, repository, path string // path is below the repository, with its query
	header                   http.Header
	body                     io.Reader // nil is none
	size                     int64     // of body
}

// v2 sends a request, and returns an answer below 300, or an error. The parent may neither send
// nothing nor take nothing for longer than [stall].
func (c *Client) v2(ctx context.Context, q v2Request) (*http.Response, error) {
	parent := c.parent.Load()
	path := "/v2/" + (&url.URL{Path: q.repository}).EscapedPath() + q.path
	ctx, w := retry.Watch(ctx, stall)
	resp, err := parent.endpoints.send(ctx, keepEndpoint, func(ctx context.Context, url string) (*http.Request, error) {
		var body io.Reader
		if q.body != nil {
			body = &watchedSender{q.body, w}
		}
		r, err := http.NewRequestWithContext(ctx, q.method, url+path, body)
		if err != nil {
			return nil, err
		}
		r.SetBasicAuth(parent.connection.Token, parent.connection.Password)
		for name, values := range q.header {
			r.Header[name] = values
		}
		if q.body != nil {
			r.ContentLength = q.size
		}
		return r, nil
	})
	if err != nil {
		w.Stop()
		return nil, w.Cause(err)
	}
	resp.Body = w.Body(resp.Body, stall)
	defer resp.Body.Close() // the body of a success does not matter
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, answerError(resp)
	}
	drain(resp.Body)
	return resp, nil
}

// A watchedSender resets a watchdog with each read of a body, because the parent took what was read
// before.
type watchedSender struct {
	io.Reader
	watchdog *retry.Watchdog
}

// Read implements [io.Reader].
func (s *watchedSender) Read(p []byte) (int, error) {
	s.watchdog.Reset(stall)
	n, err := s.Reader.Read(p)
	s.watchdog.Reset(stall)
	return n, err
}

// has reports whether the parent has a manifest or a blob.
func (c *Client) has(ctx context.Context, repository, path string) (bool, error) {
	_, err := c.v2(ctx, v2Request{method: http.MethodHead, repository: repository, path: path})
	if retry.Status(err) == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// HasManifest implements [outbox.Parent].
func (c *Client) HasManifest(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	has, err := c.has(ctx, repository, "/manifests/"+string(d))
	if err != nil {
		err = fmt.Errorf("look for manifest %s: %w", d, err)
	}
	return has, err
}

// SendManifest implements [outbox.Parent].
func (c *Client) SendManifest(
	ctx context.Context, repository string, d digest.Digest, mediaType string, payload []byte,
) error {
	_, err := c.v2(ctx, v2Request{
		method: http.MethodPut, repository: repository, path: "/manifests/" + string(d),
		header: http.Header{"Content-Type": {mediaType}, wire.HeaderChangeFollows: {"true"}},
		body:   bytes.NewReader(payload), size: int64(len(payload)),
	})
	if err != nil {
		return fmt.Errorf("send manifest %s: %w", d, err)
	}
	return nil
}

// wholeBlob is the size in bytes up to which a blob is sent in one request. A blob that is larger gets
// an upload first, which is resumed after a cut.
const wholeBlob = 64 << 10

// SendBlob implements [outbox.Parent].
func (c *Client) SendBlob(ctx context.Context, b outbox.Blob) error {
	if err := c.sendBlob(ctx, b); err != nil {
		return fmt.Errorf("send blob %s: %w", b.Digest, err)
	}
	return nil
}

func (c *Client) sendBlob(ctx context.Context, b outbox.Blob) error {
	if b.Upload != "" { // which the parent knows until the blob is whole
		id, offset, err := c.uploadOffset(ctx, b, b.Upload)
		if err != nil {
			return err
		}
		if id != "" {
			return c.endUpload(ctx, b, id, offset)
		}
	}
	if has, err := c.has(ctx, b.Repository, "/blobs/"+string(b.Digest)); err != nil || has {
		return err
	}
	if b.Size <= wholeBlob && b.From == "" {
		return c.sendContent(ctx, b, http.MethodPost, "/blobs/uploads/", 0)
	}
	id, err := c.startUpload(ctx, b)
	if err != nil || id == "" {
		return err // without an id, it was mounted
	}
	return c.endUpload(ctx, b, id, 0)
}

// endUpload sends the content from offset on. After an error, the next try begins where the parent is then,
// or, if this upload can never become the blob, with another one.
func (c *Client) endUpload(ctx context.Context, b outbox.Blob, id string, offset int64) error {
	err := c.sendContent(ctx, b, http.MethodPut, "/blobs/uploads/"+id, offset)
	if errors.Is(err, oci.ErrDigestInvalid) || errors.Is(err, oci.ErrBlobUploadUnknown) {
		return errors.Join(err, b.Started(""))
	}
	return err
}

// uploadOffset returns how many bytes the parent has of an upload; without an id if the parent does
// not know it any more.
func (c *Client) uploadOffset(ctx context.Context, b outbox.Blob, id string) (string, int64, error) {
	resp, err := c.v2(ctx, v2Request{method: http.MethodGet, repository: b.Repository, path: "/blobs/uploads/" + id})
	if retry.Status(err) == http.StatusNotFound {
		return "", 0, b.Started("")
	}
	if err != nil {
		return "", 0, err
	}
	_, last, _ := strings.Cut(resp.Header.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	switch {
	case err != nil || n < 0 || n >= b.Size:
		return "", 0, b.Started("")
	case n == 0: // an empty upload has no form of its own
		return id, 0, nil
	}
	return id, n + 1, nil
}

// startUpload begins an upload, and returns its id. If the parent mounted the blob from another
// repository instead, the id is "".
func (c *Client) startUpload(ctx context.Context, b outbox.Blob) (id string, err error) {
	path := "/blobs/uploads/"
	if b.From != "" {
		path += "?" + url.Values{"mount": {string(b.Digest)}, "from": {b.From}}.Encode()
	}
	resp, err := c.v2(ctx, v2Request{method: http.MethodPost, repository: b.Repository, path: path})
	if err != nil || resp.StatusCode == http.StatusCreated {
		return "", err
	}
	id = resp.Header.Get("Docker-Upload-Uuid")
	if id == "" || len(id) > 128 || url.PathEscape(id) != id {
		return "", errors.New("the parent's answer has no upload")
	}
	return id, b.Started(id)
}

// sendContent sends the content of a blob from offset on, and commits it.
func (c *Client) sendContent(ctx context.Context, b outbox.Blob, method, path string, offset int64) error {
	content, err := b.Open(ctx, offset)
	if err != nil {
		return err
	}
	defer content.Close()
	read := &readErrors{Reader: content}
	q := v2Request{
		method: method, repository: b.Repository, path: path + "?digest=" + url.QueryEscape(string(b.Digest)),
		header: http.Header{"Content-Type": {"application/octet-stream"}}, body: read, size: b.Size - offset,
	}
	if q.size == 0 {
		q.body = http.NoBody
	}
	if q.size > 0 && method == http.MethodPut { // it also ends an older request that the parent still waits for
		q.header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, b.Size-1))
	}
	_, err = c.v2(ctx, q)
	return cmp.Or(read.err, err)
}

// readErrors remembers the error of a read, which is not the link's.
type readErrors struct {
	io.Reader
	err error
}

// Read implements [io.Reader].
func (r *readErrors) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
