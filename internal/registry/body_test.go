package registry_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/registry"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// anyone allows everybody everything.
type anyone struct{ registry.Authorizer }

func (anyone) Authorize(*http.Request, ...auth.Access) (auth.Grant, error) { return auth.Grant{}, nil }

// pipes is a listener of in-memory connections, whose deadlines follow the clock of
// synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

// inMemory opens a storage, and serves it to everybody over in-memory connections. Both
// end with the synctest bubble.
func inMemory(t *testing.T, dir string) (*storage.Storage, pipes) {
	t.Helper()
	db, err := metadb.Open(context.Background(), "sqlite:"+filepath.Join(dir, "ferry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	st, l := newStorage(t, db), make(pipes)
	srv := &http.Server{
		Handler:     registry.New(registry.Options{Storage: st, Authorizer: anyone{}}),
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ReadTimeout: time.Minute, // the registry must not extend it
	}
	go srv.Serve(l)
	t.Cleanup(func() {
		close(l)
		srv.Close()
		time.Sleep(time.Second) // net/http releases a cut body after half a second
	})
	return st, l
}

func TestStalledUploadIsReleasedForARetry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, l := inMemory(t, dir)
		u, err := st.StartUpload(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
		first := l.dial()
		defer first.Close()
		path := uploads + u.ID()
		fmt.Fprintf(first, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhe", path)
		synctest.Wait()
		start := time.Now()
		time.Sleep(30 * time.Second)
		fmt.Fprint(first, "l")
		synctest.Wait()
		ask := func() *http.Response {
			conn := l.dial()
			defer conn.Close()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		if resp := ask(); resp.StatusCode != 204 || resp.Header.Get("Range") != "0-2" {
			t.Errorf("while the first request has stalled: %d, %v", resp.StatusCode, resp.Header)
		}
		resp, err := http.ReadResponse(bufio.NewReader(first), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 408 || resp.Header.Get("Range") != "0-2" || time.Since(start) != time.Minute {
			t.Errorf("the first request: %d, %v, after %s", resp.StatusCode, resp.Header, time.Since(start))
		}
		if resp := ask(); resp.StatusCode != 204 || resp.Header.Get("Range") != "0-2" {
			t.Errorf("the retry: %d, %v", resp.StatusCode, resp.Header)
		}
	})
}

func TestLargeManifestsWaitForMemory(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, l := inMemory(t, dir)
		push := func(size int, rest string) net.Conn {
			conn := l.dial()
			fmt.Fprintf(conn, "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, rest)
			synctest.Wait()
			return conn
		}
		for range 2 { // the clients send 8 MiB
			defer push(4<<20, "x").Close()
		}
		start := time.Now()
		large := push(4<<20, "")
		defer large.Close()
		small := push(2, "{}")
		defer small.Close()
		resp, err := http.ReadResponse(bufio.NewReader(small), nil)
		if err != nil || resp.StatusCode != 400 || time.Since(start) != 0 {
			t.Errorf("a small one: %v, %v after %s", resp, err, time.Since(start))
		}
		resp, err = http.ReadResponse(bufio.NewReader(large), nil)
		if err != nil || resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" ||
			time.Since(start) != 30*time.Second {
			t.Errorf("a large one: %v, %v after %s", resp, err, time.Since(start))
		}
	})
}

func TestPullsBeyondTheMemoryLimitWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, l := inMemory(t, dir)
		config := storage.SmallBlob{Repository: "a", Digest: digest.FromString("{}"), Data: []byte("{}")}
		if err := st.PutBlobs(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		m := storagetest.Manifest{
			Config:      &oci.Descriptor{MediaType: "a/b", Digest: config.Digest, Size: 2},
			Annotations: map[string]string{"long": strings.Repeat("x", 4<<20-1000)},
		}
		if _, err := st.PutManifest(t.Context(),
			storage.Put{Repository: "a", Payload: m.Payload(), Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
		pull := func() net.Conn {
			conn := l.dial()
			fmt.Fprint(conn, "GET /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
			synctest.Wait()
			return conn
		}
		var slow []net.Conn
		for range 16 { // 1 MiB is being sent, two chunks for each client
			slow = append(slow, pull())
			defer slow[len(slow)-1].Close()
		}
		start := time.Now()
		refused := pull()
		defer refused.Close()
		resp, err := http.ReadResponse(bufio.NewReader(refused), nil)
		if err != nil || resp.StatusCode != 429 || time.Since(start) != 30*time.Second {
			t.Errorf("beyond the limit: %v, %v after %s", resp, err, time.Since(start))
		}
		waiting := pull()
		defer waiting.Close()
		slow[0].Close()
		resp, err = http.ReadResponse(bufio.NewReader(waiting), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("after another has ended: %v, %v", resp, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(m.Payload())) || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
