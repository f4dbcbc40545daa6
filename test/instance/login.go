package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/test/image"
)

// A Login is a registry as one user sees it. It is the simplest client that the
// specification allows, and verifies all content.
type Login struct {
	Host     string // host:port
	User     string
	Password string
}

// A StatusError is an answer with a status of 300 or above.
type StatusError struct {
	Method, URL string
	Status      int
	Body        string // its beginning
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, e.Body)
}

// AsAdmin returns the instance's registry as its administrator sees it.
func (s *Instance) AsAdmin(t testing.TB) Login {
	t.Helper()
	return Login{s.Host, "admin", s.AdminPassword(t)}
}

// Do sends a request with a path at http://HOST, and returns the answer if its
// status is below 300. The caller closes the body.
func (l Login) Do(ctx context.Context, method, path string, header http.Header, body io.Reader,
	size int64) (*http.Response, error) {
	url := path
	if !strings.HasPrefix(path, "http") {
		url = "http://" + l.Host + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		req.ContentLength = size
	}
	req.SetBasicAuth(l.User, l.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return nil, &StatusError{method, url, resp.StatusCode, string(text)}
	}
	return resp, nil
}

// Push pushes an image, except for blobs that the registry has.
func (l Login) Push(ctx context.Context, repo string, m *image.Image) error {
	for _, b := range m.Blobs() {
		if resp, err := l.Do(ctx, http.MethodHead, "/v2/"+repo+"/blobs/"+b.Digest.String(), nil, nil, 0); err == nil {
			resp.Body.Close()
			continue
		}
		if err := l.PushBlob(ctx, repo, m.Blob(b.Digest), b); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(m.Blob(m.Digest))
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {v1.MediaTypeImageManifest}}
	resp, err := l.Do(ctx, http.MethodPut, "/v2/"+repo+"/manifests/"+m.Tag, header, bytes.NewReader(text),
		int64(len(text)))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// PushBlob pushes one blob from the file path.
func (l Login) PushBlob(ctx context.Context, repo, path string, b v1.Descriptor) error {
	location, err := l.StartUpload(ctx, repo)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := l.Do(ctx, http.MethodPut, WithDigest(location, b.Digest), header, f, b.Size)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// StartUpload begins an upload and returns its location.
func (l Login) StartUpload(ctx context.Context, repo string) (string, error) {
	resp, err := l.Do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, nil, 0)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return resp.Header.Get("Location"), nil
}

// WithDigest returns the URL that commits an upload.
func WithDigest(location string, d digest.Digest) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + d.String()
}

// accept has the media types that every client understands.
var accept = http.Header{"Accept": {v1.MediaTypeImageManifest, v1.MediaTypeImageIndex}}

// Digest returns the digest of a tag's manifest, by HEAD.
func (l Login) Digest(ctx context.Context, repo, tag string) (digest.Digest, error) {
	resp, err := l.Do(ctx, http.MethodHead, "/v2/"+repo+"/manifests/"+tag, accept, nil, 0)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return digest.Digest(resp.Header.Get("Docker-Content-Digest")), nil
}

// Pull pulls a complete image, verifies it, and returns its manifest's digest.
func (l Login) Pull(ctx context.Context, repo, ref string) (digest.Digest, error) {
	resp, err := l.Do(ctx, http.MethodGet, "/v2/"+repo+"/manifests/"+ref, accept, nil, 0)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(text)
	if said := resp.Header.Get("Docker-Content-Digest"); said != d.String() {
		return "", fmt.Errorf("%s:%s has digest %s, and is said to have %s", repo, ref, d, said)
	}
	var m v1.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return "", err
	}
	for _, b := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := l.PullBlob(ctx, repo, b.Digest); err != nil {
			return "", err
		}
	}
	return d, nil
}

// PullBlob pulls a blob and verifies its digest.
func (l Login) PullBlob(ctx context.Context, repo string, d digest.Digest) error {
	resp, err := l.Do(ctx, http.MethodGet, "/v2/"+repo+"/blobs/"+d.String(), nil, nil, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, resp.Body); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("blob %s of %s has another digest", d, repo)
	}
	return nil
}

// pollInterval is how often [Login.Await] asks.
const pollInterval = 50 * time.Millisecond

// Await waits until a tag's manifest has digest d. It returns an error if ctx ends
// first.
func (l Login) Await(ctx context.Context, repo, tag string, d digest.Digest) error {
	return l.await(ctx, repo, tag, "digest "+d.String(),
		func(got digest.Digest, err error) bool { return err == nil && got == d })
}

// AwaitAbsence waits until a tag does not exist. It returns an error if ctx ends first.
func (l Login) AwaitAbsence(ctx context.Context, repo, tag string) error {
	return l.await(ctx, repo, tag, "none", func(_ digest.Digest, err error) bool {
		answer, ok := errors.AsType[*StatusError](err)
		return ok && answer.Status == http.StatusNotFound
	})
}

// await waits until the answer to [Login.Digest] is the wanted one.
func (l Login) await(ctx context.Context, repo, tag, want string, is func(digest.Digest, error) bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		got, err := l.Digest(ctx, repo, tag)
		if is(got, err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s:%s at %s: have digest %q, want %s (%v): %w", repo, tag, l.Host, got, want, err,
				context.Cause(ctx))
		case <-tick.C:
		}
	}
}
