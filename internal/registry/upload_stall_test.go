package registry_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// A writer is a client that sends a chunk of 5 bytes by hand.
type writer struct {
	net.Conn
	status chan int // of the answer
}

// onStalls runs fn on a registry whose connections are in memory, with the clock of testing/synctest.
// patch begins a request that adds to an upload.
func onStalls(t *testing.T, fn func(t *testing.T, s *instance, patch func(location string) *writer)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, l := inMemory(t, dir)
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return l.dial(), nil
		}}
		defer transport.CloseIdleConnections()
		s := &instance{t: t, url: "http://registry", client: &http.Client{Transport: transport}}
		fn(t, s, func(location string) *writer {
			w := &writer{l.dial(), make(chan int, 1)}
			t.Cleanup(func() { w.Close() })
			writeHeader(w, "PATCH", location)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(w), nil)
				if err != nil {
					t.Errorf("a request got no answer: %v", err)
					w.status <- 0
					return
				}
				resp.Body.Close()
				w.status <- resp.StatusCode
			}()
			return w
		})
	})
}

func (w *writer) send(text string) {
	io.WriteString(w, text)
	synctest.Wait()
}

func TestNewerRequestEndsAStalledOne(t *testing.T) {
	onStalls(t, func(t *testing.T, s *instance, patch func(string) *writer) {
		location := s.start()
		silent := patch(location)
		silent.send("he")
		start := time.Now()
		s.do("PATCH", location, "llo", "Content-Range: 2-4").want(t, 202)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("the newer request waited %v for the silent one", d)
		}
		if status := <-silent.status; status != 408 {
			t.Errorf("the silent request got %d, want 408", status)
		}
		s.do("PUT", location+"?digest="+digest.FromString("hello").String(), "").want(t, 201)
	})
}

func TestStalledRequestEndsOnlyForItsNextByte(t *testing.T) {
	onStalls(t, func(t *testing.T, s *instance, patch func(string) *writer) {
		location := s.start()
		slow := patch(location)
		slow.send("he")
		s.do("PATCH", location, "llo").want(t, 429, "TOOMANYREQUESTS")
		for _, span := range []string{"0-2", "1-3", "3-5"} {
			a := s.do("PATCH", location, "llo", "Content-Range: "+span).want(t, 416, "BLOB_UPLOAD_INVALID")
			if a.header.Get("Range") != "0-1" || a.header.Get("Location") != location {
				t.Errorf("headers %v", a.header)
			}
		}
		s.has(location, "0-1")
		s.do("GET", "/v2/b"+location[len("/v2/a"):], "").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
		s.do("DELETE", "/v2/b"+location[len("/v2/a"):], "").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
		slow.send("llo")
		if status := <-slow.status; status != 202 {
			t.Errorf("the slow request got %d, want 202", status)
		}
		s.has(location, "0-4")
	})
}

func TestUploadHasOneWriterAtATime(t *testing.T) {
	onStalls(t, func(t *testing.T, s *instance, patch func(string) *writer) {
		location := s.start()
		slow := patch(location)
		slow.send("h")
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			for range 3 {
				time.Sleep(1500 * time.Millisecond)
				io.WriteString(slow, "l")
			}
		}()
		var all sync.WaitGroup
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			all.Go(func() {
				if a := s.do(method, location, "", "Content-Range: 2-4"); a.status != 429 {
					t.Errorf("%s: %d, %s", method, a.status, a.body)
				}
			})
		}
		all.Wait()
		<-moved
		slow.send("o")
		if status := <-slow.status; status != 202 {
			t.Errorf("the moving request got %d, want 202", status)
		}
		s.has(location, "0-4")
	})
}

func TestStalledUploadCanBeCancelled(t *testing.T) {
	onStalls(t, func(t *testing.T, s *instance, patch func(string) *writer) {
		location := s.start()
		silent := patch(location)
		silent.send("he")
		s.do("DELETE", location, "").want(t, 204)
		<-silent.status
		s.do("GET", location, "").want(t, 404, "BLOB_UPLOAD_UNKNOWN")
	})
}
