package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob/s3"
)

// oneObject is an object store with one object for all keys. It records the Range headers of GET
// requests, and cuts as many answers as told after cutAfter bytes.
type oneObject struct {
	content []byte
	cuts    int
	ranges  []string
}

const cutAfter = 1 << 20

func (o *oneObject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"1"`)
	if r.Method == http.MethodGet {
		o.ranges = append(o.ranges, r.Header.Get("Range"))
		if o.cuts > 0 {
			o.cuts--
			w = &cutWriter{w, cutAfter}
		}
	}
	http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(o.content))
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestAWholeObjectIsReadWithoutARange(t *testing.T) {
	content := []byte(strings.Repeat("0123456789abcdef", 3<<20/16))
	for name, test := range map[string]struct {
		seek int64
		cuts int
		want []string
	}{
		"from the first byte":      {want: []string{""}},
		"from another byte":        {seek: 2<<20 + 1, want: []string{"bytes=2097153-3145727"}},
		"with windows that double": {seek: 1, want: []string{"bytes=1-1048576", "bytes=1048577-3145727"}},
		"with a cut":               {cuts: 1, want: []string{"", "bytes=1048576-3145727"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := &oneObject{content: content, cuts: test.cuts}
			r, err := storeAt(t, o).Open(t.Context(), digest.FromBytes(content))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := r.Seek(test.seek, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, content[test.seek:]) {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(content)-int(test.seek))
			}
			if diff := cmp.Diff(test.want, o.ranges); diff != "" {
				t.Errorf("requested ranges (-want +got):\n%s", diff)
			}
		})
	}
}

// storeAt returns a store whose requests go to a handler.
func storeAt(t *testing.T, h http.Handler) *s3.Store {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	login := filepath.Join(t.TempDir(), "credentials")
	text := "[default]\naws_access_key_id = ferry\naws_secret_access_key = secret-key\n"
	if err := os.WriteFile(login, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := s3.New(s3.Options{Location: s3.Location{Bucket: "bucket"}, Endpoint: srv.URL, Region: "us-east-1",
		Addressing: s3.AddressByPath, CredentialsFile: login})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
