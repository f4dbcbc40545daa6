package registry_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// nowhere is a ResponseWriter that discards everything.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(status int)      { n.status = status }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkManifestByTag measures the handler without net/http, with a token that is in
// the cache.
func BenchmarkManifestByTag(b *testing.B) {
	s := newInstance(b)
	s.push("team/app", "latest", "hello")
	r := httptest.NewRequest("GET", "/v2/team/app/manifests/latest", nil)
	r.Header.Set("Authorization", "Bearer "+s.login("all", "repository:team/app:pull").bearer)
	w := &nowhere{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		w.status = 0
		s.handler.ServeHTTP(w, r)
		if w.status >= 300 {
			b.Fatal(w.status)
		}
	}
}

// BenchmarkBlob pulls a layer over loopback.
func BenchmarkBlob(b *testing.B) {
	const size = 16 << 20
	s := newInstance(b)
	d := s.pushBlob("a", strings.Repeat("x", size))
	b.SetBytes(size)
	for b.Loop() {
		s.pull(d)
	}
}

// pull reads a blob and discards it.
func (s *instance) pull(d digest.Digest) {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.url+"/v2/a/blobs/"+d.String(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(s.user, "secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer null.Close()
	if n, err := null.ReadFrom(resp.Body); err != nil || n != resp.ContentLength {
		s.t.Fatal(n, err)
	}
}
