package registry_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

const uploads = "/v2/a/blobs/uploads/"

// start starts an upload and returns its location.
func (s *instance) start() string {
	s.t.Helper()
	a := s.do("POST", uploads, "").want(s.t, 202)
	if a.header.Get("Docker-Upload-UUID") == "" || a.header.Get("Range") != "0-0" ||
		a.header.Get("OCI-Chunk-Min-Length") == "" {
		s.t.Fatalf("headers %v", a.header)
	}
	return a.header.Get("Location")
}

// has fails the test unless the upload has the range want.
func (s *instance) has(location, want string) {
	s.t.Helper()
	a := s.do("GET", location, "").want(s.t, 204)
	if a.header.Get("Range") != want || a.header.Get("Location") != location {
		s.t.Fatalf("upload is at %v, want %s", a.header, want)
	}
}

func TestEveryPushMethodStoresTheSameBlob(t *testing.T) {
	const content = "hello, world"
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := algorithm.FromString(content)
		ways := map[string]func(s *instance) answer{
			"one POST": func(s *instance) answer { return s.do("POST", uploads+"?digest="+d.String(), content) },
			"POST and PUT": func(s *instance) answer {
				return s.do("PUT", s.start()+"?digest="+d.String(), content)
			},
			"streamed": func(s *instance) answer {
				location := s.start()
				s.send("PATCH", location, io.MultiReader(strings.NewReader(content))).want(s.t,
					202) // of unknown length
				return s.do("PUT", location+"?digest="+d.String(), "")
			},
			"chunks": func(s *instance) answer {
				location := s.start()
				a := s.do("PATCH", location, content[:5], "Content-Range: 0-4").want(s.t, 202)
				if a.header.Get("Range") != "0-4" {
					s.t.Fatalf("Range %q", a.header.Get("Range"))
				}
				s.do("PATCH", a.header.Get("Location"), content[5:], "Content-Range: 5-11").want(s.t, 202)
				s.has(location, "0-11")
				return s.do("PUT", location+"?digest="+d.String(), "")
			},
			"chunks without ranges": func(s *instance) answer {
				location := s.start()
				s.do("PATCH", location, content[:5]).want(s.t, 202)
				s.do("PATCH", location, content[5:]).want(s.t, 202)
				return s.do("PUT", location+"?digest="+d.String(), "")
			},
			"a last chunk": func(s *instance) answer {
				location := s.start()
				s.do("PATCH", location, content[:5], "Content-Range: 0-4").want(s.t, 202)
				return s.do("PUT", location+"?digest="+d.String(), content[5:], "Content-Range: 5-11")
			},
			"an algorithm beforehand": func(s *instance) answer {
				a := s.do("POST", uploads+"?digest-algorithm="+string(algorithm), "").want(s.t, 202)
				return s.do("PUT", a.header.Get("Location")+"?digest="+d.String(), content)
			},
		}
		dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
			s := newInstanceOn(t, db, directory{})
			for name, push := range ways {
				t.Run(string(algorithm)+" "+name, func(t *testing.T) {
					s := *s
					s.t = t
					a := push(&s).want(t, 201)
					if a.header.Get("Docker-Content-Digest") != d.String() {
						t.Errorf("digest %q", a.header.Get("Docker-Content-Digest"))
					}
					if got := s.do("GET", a.header.Get("Location"), "").want(t, 200); got.body != content {
						t.Errorf("content %q", got.body)
					}
					s.do("DELETE", "/v2/a/blobs/"+d.String(), "").want(t, 202)
					s.do("GET", "/v2/a/blobs/"+d.String(), "").want(t, 404, "BLOB_UNKNOWN")
				})
			}
		})
	}
}

func TestChunkOutOfOrderChangesNothing(t *testing.T) {
	s := newInstance(t)
	location := s.start()
	s.do("PATCH", location, "hello", "Content-Range: 0-4").want(t, 202)
	for _, c := range []struct {
		name, method, span, body string
		status                   int
		code                     string
	}{
		{"a gap", "PATCH", "7-11", "world", 416, "BLOB_UPLOAD_INVALID"},
		{"the same again", "PATCH", "0-4", "hello", 416, "BLOB_UPLOAD_INVALID"},
		{"a gap at the end", "PUT", "7-11", "world", 416, "BLOB_UPLOAD_INVALID"},
		{"more than the range", "PATCH", "5-6", "world", 400, "SIZE_INVALID"},
		{"less than the range", "PATCH", "5-11", "x", 400, "SIZE_INVALID"},
		{"no range", "PATCH", "nonsense", "x", 400, "BLOB_UPLOAD_INVALID"},
		{"backwards", "PATCH", "9-5", "x", 400, "BLOB_UPLOAD_INVALID"},
		{"negative", "PATCH", "-5", "x", 400, "BLOB_UPLOAD_INVALID"},
		{"a giant", "PATCH", "5-99999999999999999999", "x", 400, "BLOB_UPLOAD_INVALID"},
		{"a total", "PATCH", "5-5/6", "x", 400, "BLOB_UPLOAD_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			target := location
			if c.method == "PUT" {
				target += "?digest=" + digest.FromString("hello").String()
			}
			a := s.do(c.method, target, c.body, "Content-Range: "+c.span).want(t, c.status, c.code)
			if a.header.Get("Range") != "0-4" || a.header.Get("Location") != location {
				t.Errorf("headers %v", a.header)
			}
			s.has(location, "0-4")
		})
	}
	s.t = t
	s.do("PUT", location+"?digest="+digest.FromString("hello").String(), "").want(t, 201)
}

func TestChunkedBodyMustMatchItsContentRange(t *testing.T) {
	s := newInstance(t)
	location := s.start()
	unknown := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }
	a := s.send("PATCH", location, unknown("hel"), "Content-Range: 0-4").want(t, 400, "SIZE_INVALID")
	if a.header.Get("Range") != "0-2" {
		t.Fatalf("Range %q: the received part was not kept", a.header.Get("Range"))
	}
	s.send("PATCH", location, unknown("lo, and more"), "Content-Range: 3-4").want(t, 400, "SIZE_INVALID")
	s.do("PUT", location+"?digest="+digest.FromString("hello").String(), "").want(t, 201)
}

func TestPartOfACutBodyIsKept(t *testing.T) {
	s := newInstance(t)
	for _, method := range []string{"PATCH", "PUT"} {
		location := s.start()
		target := location
		if method == "PUT" {
			target += "?digest=" + digest.FromString("hello").String()
		}
		conn := s.dial(method, target)
		io.WriteString(conn, "hel")
		conn.CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 400 || resp.Header.Get("Range") != "0-2" {
			t.Errorf("%s: %d, %v", method, resp.StatusCode, resp.Header)
		}
		resp.Body.Close()
		conn.Close()
		s.has(location, "0-2")
		s.do("PATCH", location, "lo", "Content-Range: 3-4").want(t, 202)
		s.do("PUT", location+"?digest="+digest.FromString("hello").String(), "").want(t, 201)
	}
}

func TestInvalidBlobPushHasTheSpecifiedError(t *testing.T) {
	s := newInstance(t)
	good := digest.FromString("hello")
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"another digest", "POST", uploads + "?digest=" + good.String(), "other", 400, "DIGEST_INVALID"},
		{"a malformed digest", "POST", uploads + "?digest=sha256:abc", "hello", 400, "DIGEST_INVALID"},
		{"an unknown algorithm", "POST", uploads + "?digest-algorithm=md5", "", 400, "UNSUPPORTED"},
		{"an unknown upload", "PATCH", uploads + "nothing", "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"an unknown upload's end", "PUT", uploads + "nothing?digest=" + good.String(), "x", 404,
			"BLOB_UPLOAD_UNKNOWN"},
		{"an unknown upload's state", "GET", uploads + "nothing", "", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"an unknown upload's end by force", "DELETE", uploads + "nothing", "", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"a path as an upload", "GET", uploads + "..%2f..%2fetc", "", 404, "NOT_FOUND"},
		{"an unknown blob", "DELETE", "/v2/a/blobs/" + good.String(), "", 404, "BLOB_UNKNOWN"},
		{"a malformed mount", "POST", uploads + "?mount=sha256:abc&from=b", "", 400, "DIGEST_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.do(c.method, c.path, c.body).want(t, c.status, c.code)
		})
	}
	s.t = t
	location := s.start()
	for _, bad := range []string{"", "?digest=", "?digest=x", "?digest=sha256:zz"} {
		s.do("PUT", location+bad, "hello").want(t, 400, "DIGEST_INVALID")
	}
	s.has(location, "0-0") // unchanged
	// An upload belongs to its repository.
	s.do("GET", strings.Replace(location, "/v2/a/", "/v2/b/", 1), "").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
	s.do("PUT", location+"?digest="+good.String(), "other").want(t, 400, "DIGEST_INVALID")
	s.do("GET", "/v2/a/blobs/"+good.String(), "").want(t, 404, "BLOB_UNKNOWN")
}

func TestCancelledUploadIsUnknown(t *testing.T) {
	s := newInstance(t)
	location := s.start()
	s.do("PATCH", location, "hello").want(t, 202)
	s.do("DELETE", location, "").want(t, 204)
	s.do("GET", location, "").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
	s.do("PATCH", location, "hello").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
}

// dial sends the headers of a request with a body of 5 bytes, which the caller sends.
func (s *instance) dial(method, target string, headers ...string) *net.TCPConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	writeHeader(conn, method, target, headers...)
	return conn.(*net.TCPConn)
}

func writeHeader(conn net.Conn, method, target string, headers ...string) {
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxsOnNlY3JldA==\r\nContent-Length: 5\r\n",
		method, target)
	for _, h := range headers {
		io.WriteString(conn, h+"\r\n")
	}
	io.WriteString(conn, "\r\n")
}
