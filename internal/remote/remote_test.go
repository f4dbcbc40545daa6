package remote_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
	"ferry/internal/remote"
)

// pack makes a layout with an index of two images that share a layer. It returns the
// layout, the index and all blobs.
func pack(t *testing.T) (*layout.Layout, oci.Descriptor, []oci.Descriptor) {
	t.Helper()
	l, err := layout.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put := func(mediaType, content string) oci.Descriptor {
		d, err := l.Put(mediaType, func(w io.Writer) error { _, err := io.WriteString(w, content); return err })
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	shared := put(v1.MediaTypeImageLayer, strings.Repeat("shared", 10_000))
	blobs := []oci.Descriptor{shared}
	var images []oci.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		config, own := put(v1.MediaTypeImageConfig, `{"architecture":"`+arch+`","os":"linux"}`),
			put(v1.MediaTypeImageLayer, arch)
		blobs = append(blobs, config, own)
		image, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
			Config: config, Layers: []oci.Descriptor{shared, own},
		})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
	}
	index, err := l.PutJSON(v1.MediaTypeImageIndex, v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: images,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, index, blobs
}

func TestPushedImageIsReadBackByteForByte(t *testing.T) {
	address, password := serve(t)
	r := client(t, address, remote.Options{Username: "admin", Password: password})
	l, index, blobs := pack(t)
	ctx := t.Context()
	sent := 0
	if err := r.Push(ctx, "a/b", "multi", index, l, func(n int) { sent += n }); err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, b := range blobs {
		size += b.Size
	}
	if int64(sent) != size {
		t.Errorf("%d bytes were sent, want each blob once: %d", sent, size)
	}
	m, err := r.Manifest(ctx, "a/b", "multi")
	if err != nil || m.Digest != index.Digest || m.MediaType != v1.MediaTypeImageIndex {
		t.Fatalf("manifest %+v, %v; want %s", m, err, index.Digest)
	}
	if d, err := r.Resolve(ctx, "a/b", "multi"); err != nil || d != index.Digest {
		t.Errorf("resolve = %s, %v", d, err)
	}
	for _, b := range blobs {
		for _, span := range [][2]int64{{0, -1}, {b.Size / 2, -1}, {1, 2}} {
			body, start, err := r.Blob(ctx, "a/b", b.Digest, span[0], span[1])
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			body.Close()
			if err != nil {
				t.Fatal(err)
			}
			want := readBlob(t, l, b.Digest)[start:]
			if span[1] >= 0 {
				want = want[:min(span[1], int64(len(want)))]
			}
			if start != span[0] || !bytes.Equal(got, want) {
				t.Errorf("%s from %d, %d bytes: got %d different bytes, from %d on",
					b.Digest, span[0], span[1], len(got), start)
			}
		}
	}
	sent = 0
	if err := r.Push(ctx, "a/b", "again", index, l, func(n int) { sent += n }); err != nil || sent != 0 {
		t.Errorf("pushed again: %d bytes, %v; want none", sent, err)
	}
	if ok, err := r.HasBlob(ctx, "a/b", blobs[0].Digest); err != nil || !ok {
		t.Errorf("a pushed blob: %v, %v", ok, err)
	}
}

func readBlob(t *testing.T, l *layout.Layout, d digest.Digest) []byte {
	t.Helper()
	f, err := l.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestErrorsKeepTheirCodesAcrossHTTP(t *testing.T) {
	address, password := serve(t)
	ctx := t.Context()
	r := client(t, address, remote.Options{Username: "admin", Password: "wrong"})
	if _, err := r.Manifest(ctx, "a", "v1"); oci.AsError(err) == nil && !strings.Contains(err.Error(), "401") {
		t.Errorf("wrong password: %v", err)
	}
	r = client(t, address, remote.Options{Username: "admin", Password: password})
	absent := digest.FromString("absent")
	if _, err := r.Manifest(ctx, "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) &&
		!errors.Is(err, oci.ErrNameUnknown) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := r.Resolve(ctx, "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) {
		t.Errorf("resolve: %v", err)
	}
	if ok, err := r.HasRepository(ctx, "a"); ok || err != nil {
		t.Errorf("has repository = %v, %v", ok, err)
	}
	if ok, err := r.HasBlob(ctx, "a", absent); ok || err != nil {
		t.Errorf("has blob = %v, %v", ok, err)
	}
	if _, _, err := r.Blob(ctx, "a", absent, 0, -1); oci.AsError(err) == nil {
		t.Errorf("blob: %v", err)
	}
}

func TestLoginRefusedByTokenEndpointIsUnauthorized(t *testing.T) {
	for body, want := range map[string]string{
		"": "", `{"errors":[{"code":"DENIED","message":"bot is locked"}]}`: "bot is locked",
	} {
		mux := http.NewServeMux()
		s := httptest.NewServer(mux)
		t.Cleanup(s.Close)
		mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, body)
		})
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="`+s.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		for _, o := range []remote.Options{{}, {Username: "bot", Password: "wrong"}} {
			_, err := client(t, s.URL, o).Tags(t.Context(), "app")
			if !errors.Is(err, oci.ErrUnauthorized) || !strings.Contains(err.Error(), want) {
				t.Errorf("with %+v the error is %v", o, err)
			}
		}
	}
	basic := answering(t, http.StatusUnauthorized, http.Header{"Www-Authenticate": {`Basic realm="x"`}}, "")
	if _, err := basic.Tags(t.Context(), "app"); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("without a login the error is %v", err)
	}
}

func TestManifestWithAnotherDigestIsRefused(t *testing.T) {
	header := http.Header{"Docker-Content-Digest": {digest.FromString("other").String()},
		"Content-Type": {oci.MediaTypeImageManifest}}
	r := answering(t, http.StatusOK, header, `{"schemaVersion":2}`)
	if m, err := r.Manifest(t.Context(), "a", "v1"); err == nil {
		t.Errorf("the registry's digest: %+v", m)
	}
	if m, err := r.Manifest(t.Context(), "a", digest.FromString("wanted").String()); err == nil {
		t.Errorf("the digest asked for: %+v", m)
	}
	address, password := serve(t)
	r = client(t, address, remote.Options{Username: "admin", Password: password})
	err := r.PutBlob(t.Context(), "a", digest.FromString("x"), 1, strings.NewReader("y"))
	if !errors.Is(err, oci.ErrDigestInvalid) {
		t.Errorf("upload: %v", err)
	}
}

func TestRetryAfterIsPartOfTheError(t *testing.T) {
	r := answering(t, http.StatusTooManyRequests, http.Header{"Retry-After": {"7"}}, "")
	_, err := r.Manifest(t.Context(), "a", "v1")
	var asked interface{ RetryAfter() time.Duration }
	if !errors.Is(err, oci.ErrTooManyRequests) || !errors.As(err, &asked) || asked.RetryAfter() != 7*time.Second {
		t.Errorf("%v", err)
	}
}

func TestRegistryMessageIsSafeForATerminal(t *testing.T) {
	r := answering(t, http.StatusForbidden, nil,
		`{"errors":[{"code":"DENIED","message":"no\u001b[2Jway\nferry: all is well"}]}`)
	_, err := r.Manifest(t.Context(), "a", "v1")
	if !errors.Is(err, oci.ErrDenied) || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("%q", err)
	}
}

func TestEndlessManifestIsRefused(t *testing.T) {
	r := answering(t, http.StatusOK, http.Header{"Content-Type": {oci.MediaTypeImageManifest}},
		strings.Repeat(" ", oci.MaxManifestSize+1))
	if _, err := r.Manifest(t.Context(), "a", "v1"); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestInvalidAddressIsRefused(t *testing.T) {
	for _, address := range []string{
		"", "host", "ftp://host", "http://", "http://host/path", "http://user:secret@host", "http://a b",
	} {
		if _, err := remote.New(address, remote.Options{}); err == nil {
			t.Errorf("New(%q) is accepted", address)
		}
	}
	for _, address := range []string{"http://host", "https://host:5000/", "http://[::1]:5000"} {
		if _, err := remote.New(address, remote.Options{}); err != nil {
			t.Errorf("New(%q): %v", address, err)
		}
	}
}

func TestManifestMayNameItsOwnMediaType(t *testing.T) {
	for name, test := range map[string]struct{ said, payload, want string }{
		"JSON": {"application/json", `{"mediaType":"` + oci.MediaTypeImageManifest + `"}`,
			oci.MediaTypeImageManifest},
		"text": {"text/plain; charset=utf-8", `{"mediaType":"` + oci.MediaTypeDockerList + `"}`,
			oci.MediaTypeDockerList},
		"nothing": {"", `{"mediaType":"` + oci.MediaTypeImageIndex + `"}`, oci.MediaTypeImageIndex},
		"its own": {oci.MediaTypeImageIndex + "; charset=utf-8", `{}`, oci.MediaTypeImageIndex},
		"another": {oci.MediaTypeImageIndex, `{"mediaType":"` + oci.MediaTypeDockerList + `"}`,
			oci.MediaTypeImageIndex},
		"none at all":  {"application/json", `{"schemaVersion":2}`, "application/json"},
		"another kind": {"text/plain", `{"mediaType":"text/html"}`, "text/plain"},
		"no manifest":  {"text/html", `<html>`, "text/html"},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, http.StatusOK, http.Header{"Content-Type": {test.said}}, test.payload)
			if m, err := r.Manifest(t.Context(), "a", "v1"); err != nil || m.MediaType != test.want {
				t.Errorf("%+v, %v, want %s", m, err, test.want)
			}
		})
	}
}

func TestManifestIsReadIfHeadIsRefused(t *testing.T) {
	const payload = `{"schemaVersion":2}`
	for _, status := range []int{400, 403, 405, 406, 501, 401, 404, 429, 500} {
		gets := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
				return
			}
			gets++
			io.WriteString(w, payload)
		}))
		t.Cleanup(s.Close)
		d, err := client(t, s.URL, remote.Options{}).Resolve(t.Context(), "a", "v1")
		if asks := status != 401 && status != 404 && status != 429 && status != 500; asks {
			if err != nil || d != digest.FromString(payload) {
				t.Errorf("HEAD answers %d: %s, %v", status, d, err)
			}
		} else if err == nil || gets > 0 {
			t.Errorf("HEAD answers %d: %s, no error, and %d manifests were read", status, d, gets)
		}
	}
}
