//go:build s3

package s3_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob/s3"
	"ferry/internal/storage/blob/s3/s3test"
)

// A recorder notes which encryption the requests of each kind ask for.
type recorder struct {
	http.RoundTripper
	mu    sync.Mutex
	kinds map[string]map[string]bool // kind of request, then header and value
}

// RoundTrip implements [http.RoundTripper].
func (c *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	kind := r.Method
	switch {
	case q.Has("uploads"):
		kind += " uploads"
	case r.Header.Get("X-Amz-Copy-Source") != "":
		kind += " part copy"
	case q.Has("partNumber"):
		kind += " part"
	case q.Has("uploadId"):
		kind += " upload"
	case q.Has("list-type"):
		kind += " list"
	}
	var asked []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.Contains(name, "server-side-encryption") {
			asked = append(asked, name+": "+values[0])
		}
	}
	slices.Sort(asked)
	c.mu.Lock()
	if c.kinds[kind] == nil {
		c.kinds[kind] = map[string]bool{}
	}
	c.kinds[kind][strings.Join(asked, ", ")] = true
	c.mu.Unlock()
	return c.RoundTripper.RoundTrip(r)
}

// TestRequestsThatCreateObjectsAskForEncryption makes requests of each kind. Amazon's store refuses
// those that ask for encryption and create no object.
func TestRequestsThatCreateObjectsAskForEncryption(t *testing.T) {
	server := s3test.Start(t)
	for encryption, want := range map[string]string{
		"":             "",
		s3.EncryptS3:   "x-amz-server-side-encryption: AES256",
		s3.EncryptKMS:  "x-amz-server-side-encryption: aws:kms",
		"kms:alias/me": "x-amz-server-side-encryption-aws-kms-key-id: alias/me, x-amz-server-side-encryption: aws:kms",
	} {
		t.Run(encryption, func(t *testing.T) {
			c := &recorder{kinds: map[string]map[string]bool{}}
			o := server.Options(strings.ReplaceAll(strings.ToLower(t.Name()), ":", "-"))
			o.Encryption = encryption
			o.Wrap = func(next http.RoundTripper) http.RoundTripper { c.RoundTripper = next; return c }
			core := minio.Core{Client: server.Client()}
			if _, err := core.NewMultipartUpload(t.Context(), server.Bucket, o.Location.Prefix+"/blobs/sha256/x",
				minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
			useAll(t, s3test.New(t, o))
			if parts := strings.Split(want, ", "); len(parts) == 2 {
				slices.Sort(parts)
				want = strings.Join(parts, ", ")
			}
			got := map[string]string{}
			for kind, asked := range c.kinds {
				got[kind] = strings.Join(slices.Collect(maps.Keys(asked)), " or ")
			}
			if diff := cmp.Diff(map[string]string{
				"PUT": want, "POST uploads": want,
				"PUT part": "", "PUT part copy": "", "POST upload": "", "DELETE upload": "", "DELETE": "",
				"GET": "", "HEAD": "", "GET list": "", "GET uploads": "",
			}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// useAll makes requests of each kind. There is a multipart upload that nobody completes.
func useAll(t *testing.T, s *s3.Store) {
	t.Helper()
	ctx := t.Context()
	content := strings.Repeat("0123456789abcdef", 7<<20/16)
	d := digest.FromString(content)
	p := write(t, s, "upload", content[:1<<20], 0)
	err := p.Sync()
	if err == nil {
		_, err = p.WriteAt([]byte(content[1<<20:6<<20]), 1<<20)
	}
	if err == nil {
		err = p.Sync()
	}
	if err == nil {
		_, err = p.WriteAt([]byte(content[6<<20:]), 6<<20)
	}
	for _, step := range []func() error{
		func() error { return s.Check(ctx) },
		func() error { return s.Claim(ctx, "instance") },
		p.Close,
		func() error { return s.Commit(ctx, "upload", d) },
		func() error { return s.Discard(ctx, "upload") },
		func() error { _, err := s.Stat(ctx, d); return err },
		func() error { return s.Reopen(ctx, d, "again") },
		func() error { return s.Commit(ctx, "again", d) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		t.Fatal(fmt.Errorf("use the store: %w", err))
	}
	clean(t, s, old(), 1)
}
