package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/internal/telemetry"
)

// always finds h for every path.
func always(h http.HandlerFunc) func(string) (string, http.Handler) {
	return func(string) (string, http.Handler) { return "none", h }
}

func serveThrough(t *testing.T, h http.HandlerFunc) (*httptest.Server, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	m := newMiddleware(always(h),
		slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), telemetry.NewMetrics())
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	return srv, log
}

// A readerFrom records whether its ReadFrom got a file, for which net/http uses sendfile.
type readerFrom struct {
	*httptest.ResponseRecorder
	from io.Reader
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	r.from = src
	return io.Copy(r.ResponseRecorder, src)
}

func TestFilesReachTheConnectionForSendfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	under := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	m := newMiddleware(always(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, path)
	}), slog.New(slog.DiscardHandler), telemetry.NewMetrics())
	m.ServeHTTP(under, httptest.NewRequest("GET", "/", nil))
	limited, ok := under.from.(*io.LimitedReader)
	if !ok {
		t.Fatalf("the connection read from a %T", under.from)
	}
	if _, ok := limited.R.(*os.File); !ok {
		t.Errorf("the connection read from a %T", limited.R)
	}
	if under.Body.String() != "content" {
		t.Errorf("body %q", under.Body)
	}
}

func TestPanicIsA500AndTheServerStaysUp(t *testing.T) {
	srv, log := serveThrough(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			panic("a secret-free reason")
		}
	})
	resp, err := http.Get(srv.URL + "/bad")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	id := resp.Header.Get(requestIDHeader)
	if resp.StatusCode != 500 || id == "" || !strings.Contains(string(body), id) ||
		strings.Contains(string(body), "reason") {
		t.Errorf("%d %s (id %q)", resp.StatusCode, body, id)
	}
	if !strings.Contains(log.String(), "a secret-free reason") || !strings.Contains(log.String(), id) {
		t.Errorf("log: %s", log)
	}
	if resp, err = http.Get(srv.URL); err != nil || resp.StatusCode != 200 {
		t.Errorf("after the panic: %v, %v", resp, err)
	}
}

func TestPanicAfterTheHeaderCutsTheConnection(t *testing.T) {
	srv, _ := serveThrough(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		panic("x")
	})
	resp, err := http.Get(srv.URL)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("the client took half an answer for a whole one")
	}
}

func TestEveryRequestHasAnID(t *testing.T) {
	srv, log := serveThrough(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get(requestIDHeader))
	})
	for _, test := range []struct {
		name, given string
		kept        bool
	}{
		{"none", "", false},
		{"the caller's", "abc-1.2_3", true},
		{"one that would forge a log line", "a b=c", false},
		{"one that is too long", strings.Repeat("x", 65), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, _ := http.NewRequest("GET", srv.URL, nil)
			if test.given != "" {
				req.Header.Set(requestIDHeader, test.given)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			id := resp.Header.Get(requestIDHeader)
			if id == "" || id != string(body) || (id == test.given) != test.kept {
				t.Errorf("answered with %q, the handler saw %q", id, body)
			}
		})
	}
	srv.Close() // the handlers have returned
	if !strings.Contains(log.String(), "id=abc-1.2_3") || !strings.Contains(log.String(), "status=200") {
		t.Errorf("access log: %s", log)
	}
}

// An answer of several chunks arrives complete: from a file, from a part of one, and from
// another reader.
func TestLongAnswerArrivesComplete(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 3*writeChunk/16+1)
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	srv, _ := serveThrough(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file":
			http.ServeFile(w, r, path)
		case "/reader":
			io.Copy(w, struct{ io.Reader }{bytes.NewReader(content)})
		case "/bytes":
			w.Write(content)
		}
	})
	for _, test := range []struct{ path, span string }{
		{"/file", ""}, {"/file", "bytes=5-2097160"}, {"/reader", ""}, {"/bytes", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := content
		if test.span != "" {
			req.Header.Set("Range", test.span)
			want = content[5:2097161]
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s %s: %d bytes, %v; want %d", test.path, test.span, len(got), err, len(want))
		}
	}
}

func TestStalledReaderIsDropped(t *testing.T) {
	dropped := make(chan error, 1)
	m := newMiddleware(always(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, io.LimitReader(endless{}, 1<<40))
		dropped <- err
	}), slog.New(slog.DiscardHandler), telemetry.NewMetrics())
	m.stall = 50 * time.Millisecond
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-dropped; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer ended with %v", err)
	}
}

// deadlines records the deadlines of its connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestWriteDeadlineEndsWithTheAnswer(t *testing.T) {
	under := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	m := newMiddleware(always(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "answer")
	}), slog.New(slog.DiscardHandler), telemetry.NewMetrics())
	m.ServeHTTP(under, httptest.NewRequest("GET", "/", nil))
	if len(under.set) != 2 || under.set[0].IsZero() || !under.set[1].IsZero() {
		t.Errorf("deadlines %v, want one and then none", under.set)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
