package registry_test

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
)

func TestBlobIsServedInRanges(t *testing.T) {
	s := newInstance(t)
	const content = "0123456789"
	d := s.pushBlob("a", content)
	path, etag := "/v2/a/blobs/"+d.String(), `"`+d.String()+`"`
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		body    string
		span    string // Content-Range
	}{
		{"whole", nil, 200, content, ""},
		{"the middle", []string{"Range: bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{"from an offset", []string{"Range: bytes=7-"}, 206, "789", "bytes 7-9/10"},
		{"a suffix", []string{"Range: bytes=-3"}, 206, "789", "bytes 7-9/10"},
		{"beyond the end", []string{"Range: bytes=8-100"}, 206, "89", "bytes 8-9/10"},
		{"a suffix longer than all", []string{"Range: bytes=-100"}, 206, content, "bytes 0-9/10"},
		{"the same content", []string{"Range: bytes=2-4", "If-Range: " + etag}, 206, "234", "bytes 2-4/10"},
		{"other content", []string{"Range: bytes=2-4", `If-Range: "other"`}, 200, content, ""},
		{"more ranges than content", []string{"Range: bytes=0-9,0-9,0-9"}, 200, content, ""},
		{"of a unit that is not known", []string{"Range: lines=1-2"}, 200, content, ""},
		{"in capitals", []string{"Range: Bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{"the last zero bytes, and others", []string{"Range: bytes=-0,2-4"}, 206, "234", "bytes 2-4/10"},
		{"the last zero bytes of other content", []string{"Range: bytes=-0", `If-Range: "other"`}, 200, content, ""},
		{"what the client has", []string{"If-None-Match: " + etag}, 304, "", ""},
		{"what the client has among others", []string{`If-None-Match: "x", W/` + etag}, 304, "", ""},
		{"other than the client has", []string{`If-None-Match: "x"`}, 200, content, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			a := s.do("GET", path, "", c.headers...).want(t, c.status)
			if a.body != c.body || a.header.Get("Content-Range") != c.span {
				t.Errorf("body %q, Content-Range %q", a.body, a.header.Get("Content-Range"))
			}
			if a.header.Get("Etag") != etag || a.header.Get("Docker-Content-Digest") != d.String() {
				t.Errorf("headers %v", a.header)
			}
			head := s.do("HEAD", path, "", c.headers...).want(t, c.status)
			if head.header.Get("Content-Length") != a.header.Get("Content-Length") || head.body != "" {
				t.Errorf("HEAD: %v", head)
			}
		})
	}
	s.t = t
	for _, bad := range []string{"bytes=10-", "bytes=100-200", "bytes=4-2", "bytes=x-y", "bytes=-", "bytes=-0",
		"bytes=99999999999999999999-"} {
		a := s.do("GET", path, "", "Range: "+bad).want(t, 416, "RANGE_INVALID")
		if (strings.HasPrefix(bad, "bytes=10") || bad == "bytes=-0") && a.header.Get("Content-Range") != "bytes */10" {
			t.Errorf("%s: Content-Range %q", bad, a.header.Get("Content-Range"))
		}
	}
}

func TestSeveralRangesAreSentAsMultipart(t *testing.T) {
	s := newInstance(t)
	d := s.pushBlob("a", strings.Repeat("0123456789", 100))
	a := s.do("GET", "/v2/a/blobs/"+d.String(), "", "Range: bytes=0-1,5-6").want(t, 206)
	_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []string{"01", "56"} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(p); string(got) != want {
			t.Errorf("part %q, want %q", got, want)
		}
	}
}

// A sink is a ResponseWriter that records whether the body was written with ReadFrom,
// for which net/http uses sendfile, or with Write.
type sink struct {
	*httptest.ResponseRecorder
	from    io.Reader
	written int
}

func (s *sink) Write(p []byte) (int, error) {
	s.written += len(p)
	return s.ResponseRecorder.Write(p)
}

func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	s.from = r
	return io.Copy(s.ResponseRecorder, r)
}

func TestBlobIsSentWithSendfile(t *testing.T) {
	s := newInstance(t)
	d := s.pushBlob("a", "0123456789")
	for name, span := range map[string]string{"whole": "", "a range": "bytes=2-4"} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/a/blobs/"+d.String(), nil)
			r.SetBasicAuth("all", "secret")
			if span != "" {
				r.Header.Set("Range", span)
			}
			out := &sink{ResponseRecorder: httptest.NewRecorder()}
			s.handler.ServeHTTP(out, r)
			// net/http uses sendfile for exactly these types.
			limited, ok := out.from.(*io.LimitedReader)
			if !ok {
				t.Fatalf("the body came from a %T", out.from)
			}
			if _, ok := limited.R.(*os.File); !ok || out.written != 0 {
				t.Fatalf("the body came from a %T, and %d bytes by Write", limited.R, out.written)
			}
		})
	}
}

func TestManifestIsServedByteForByte(t *testing.T) {
	s := newInstance(t)
	config, layer := s.pushBlob("a", "{}"), s.pushBlob("a", "hello")
	docker := strings.NewReplacer(
		oci.MediaTypeImageManifest, oci.MediaTypeDockerManifest,
		"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
		"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar",
	).Replace(image(config, layer))
	child := digest.FromString(docker).String()
	list := `{ "schemaVersion": 2,` + "\n\t" + `"mediaType": "` + oci.MediaTypeDockerList +
		`", "manifests": [ {"mediaType":"` +
		oci.MediaTypeDockerManifest + `","digest":"` + child +
		`","size":1,"platform":{"os":"linux","architecture":"arm"}} ], "unknown": [1.0, 1e3, "\u00e9"] }` + "\n"
	for _, c := range []struct{ tag, mediaType, text string }{
		{"oci", oci.MediaTypeImageManifest, image(config, layer) + "\n \n"},
		{"docker", oci.MediaTypeDockerManifest, docker},
		{"list", oci.MediaTypeDockerList, list},
		{"index", oci.MediaTypeImageIndex, strings.ReplaceAll(list, oci.MediaTypeDockerList, oci.MediaTypeImageIndex)},
	} {
		t.Run(c.tag, func(t *testing.T) {
			s.t = t
			d := digest.FromString(c.text).String()
			a := s.do("PUT", "/v2/a/manifests/"+c.tag, c.text, "Content-Type: "+c.mediaType).want(t, 201)
			if a.header.Get("Docker-Content-Digest") != d || a.header.Get("Location") != "/v2/a/manifests/"+d {
				t.Errorf("headers %v", a.header)
			}
			for _, ref := range []string{c.tag, d} {
				// The Accept header does not matter: manifests are never converted.
				got := s.do("GET", "/v2/a/manifests/"+ref, "", "Accept: application/json").want(t, 200)
				head := s.do("HEAD", "/v2/a/manifests/"+ref, "").want(t, 200)
				if got.body != c.text || head.body != "" {
					t.Errorf("body %q", got.body)
				}
				for _, h := range []http.Header{got.header, head.header} {
					if h.Get("Content-Type") != c.mediaType || h.Get("Docker-Content-Digest") != d ||
						h.Get("Etag") != `"`+d+`"` {
						t.Errorf("%s: headers %v", ref, h)
					}
				}
				if head.header.Get("Content-Length") != got.header.Get("Content-Length") {
					t.Errorf("HEAD: Content-Length %s", head.header.Get("Content-Length"))
				}
				s.do("GET", "/v2/a/manifests/"+ref, "", `If-None-Match: "x", "`+d+`"`).want(t, 304)
				s.do("HEAD", "/v2/a/manifests/"+ref, "", "If-None-Match: *").want(t, 304)
				s.do("GET", "/v2/a/manifests/"+ref, "", `If-None-Match: "x"`).want(t, 200)
			}
		})
	}
}

func TestMovedTagIsServedAtOnce(t *testing.T) {
	s := newInstance(t)
	for _, content := range []string{"one", "two", "one"} {
		manifest, d := s.push("a", "latest", content)
		if a := s.do("GET", "/v2/a/manifests/latest", "").want(t, 200); a.body != manifest ||
			a.header.Get("Etag") != `"`+d.String()+`"` {
			t.Fatalf("latest is %s", a.body)
		}
	}
	s.do("DELETE", "/v2/a/manifests/latest", "").want(t, 202)
	s.do("GET", "/v2/a/manifests/latest", "").want(t, 404, "MANIFEST_UNKNOWN")
}

func TestMissingContentIsUnknown(t *testing.T) {
	s := newInstance(t)
	s.push("a", "v1", "x")
	d := digest.FromString("nothing").String()
	for path, code := range map[string]string{
		"/v2/a/manifests/v2": "MANIFEST_UNKNOWN", "/v2/a/manifests/" + d: "MANIFEST_UNKNOWN",
		"/v2/b/manifests/v1": "MANIFEST_UNKNOWN",
		"/v2/a/blobs/" + d:   "BLOB_UNKNOWN", "/v2/b/blobs/" + digest.FromString("x").String(): "BLOB_UNKNOWN",
		"/v2/b/tags/list": "NAME_UNKNOWN", "/acr/v1/b": "NAME_UNKNOWN", "/acr/v1/b/_tags": "NAME_UNKNOWN",
		"/acr/v1/b/_manifests": "NAME_UNKNOWN",
		"/acr/v1/a/_tags/v2":   "MANIFEST_UNKNOWN", "/acr/v1/a/_manifests/" + d: "MANIFEST_UNKNOWN",
	} {
		s.do("GET", path, "").want(t, 404, code)
		s.do("HEAD", path, "").want(t, 404)
	}
	for _, path := range []string{"/v2/a/manifests/v2", "/v2/a/manifests/" + d, "/acr/v1/b", "/acr/v1/a/_tags/v2",
		"/acr/v1/a/_manifests/" + d} {
		s.do("DELETE", path, "").want(t, 404)
	}
}

func TestUnknownErrorsNameTheirReference(t *testing.T) {
	s := newInstance(t)
	s.push("team/app", "v1", "hello")
	d := digest.FromString("nothing").String()
	for path, want := range map[string]string{
		"/v2/team/app/manifests/v9":        "manifest unknown: v9 of team/app",
		"/v2/team/app/manifests/" + d:      "manifest unknown: " + d + " of team/app",
		"/acr/v1/team/app/_tags/v9":        "manifest unknown: v9 of team/app",
		"/acr/v1/team/app/_manifests/" + d: "manifest unknown: " + d + " of team/app",
		"/v2/team/app/blobs/" + d:          "blob unknown to registry: " + d + " of team/app",
		"/v2/team/none/tags/list":          "repository name not known to registry: team/none",
		"/acr/v1/team/none/_tags":          "repository name not known to registry: team/none",
	} {
		var answer struct{ Errors []struct{ Message string } }
		s.do("GET", path, "").want(t, 404).json(t, &answer)
		if len(answer.Errors) != 1 || answer.Errors[0].Message != want {
			t.Errorf("%s: %+v, want %q", path, answer, want)
		}
	}
}

func TestDamagedLargeManifestIsCutOff(t *testing.T) {
	db := dbtest.SQLite(t)
	s := newInstanceOn(t, db, directory{})
	config := s.pushBlob("a", "{}")
	content := image(config) + strings.Repeat(" ", 2*metadb.MaxInRow)
	d := digest.FromString(content)
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		row := metadb.Manifest{
			Repository: "a", Digest: d, MediaType: oci.MediaTypeImageManifest,
			Payload: []byte(content[:len(content)-1] + "\n"),
		}
		_, err := tx.PutManifest(row, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v2/a/manifests/" + d.String()
	s.do("HEAD", path, "").want(t, 200)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("all", "secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= int64(len(content)) {
		t.Errorf("all %d bytes come, %v", n, err)
	}
	s.do("GET", path, "").want(t, 404, "MANIFEST_UNKNOWN")
}
