package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/telemetry"
)

// inMemory runs test in a bubble of testing/synctest, with an instance's server
// around a handler; dial opens a connection to it.
func inMemory(t *testing.T, h http.HandlerFunc, test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := make(queue)
		log := slog.New(slog.DiscardHandler)
		srv := newHTTPServer(newMiddleware(always(h), log, telemetry.NewMetrics()), log)
		defer srv.Close()
		defer close(q)
		go srv.Serve(q)
		test(t, func() net.Conn {
			client, server := net.Pipe()
			q <- server
			return client
		})
		time.Sleep(2 * time.Second) // until both ends have closed their connections
	})
}

// answered returns the status of the answer on c, and the time until it came. Status 0
// means that the connection was closed.
func answered(c net.Conn) (status int, after time.Duration) {
	start := time.Now()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, time.Since(start)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, time.Since(start)
}

// echo reads the body, and answers with the error of the last read.
func echo(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
	}
}

func TestStalledBodyEndsTheRequest(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"read":     echo,
		"not read": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, h, func(t *testing.T, dial func() net.Conn) {
				c := dial()
				defer c.Close()
				fmt.Fprint(c, "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
				start := time.Now()
				answered(c)
				io.Copy(io.Discard, c) // until the server closes the connection
				if took := time.Since(start); took < readStall || took > readStall+10*time.Second {
					t.Errorf("the connection is held for %v", took)
				}
			})
		})
	}
}

func TestDrippingBodyEndsTheRequest(t *testing.T) {
	inMemory(t, echo, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
		go func() {
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if status, took := answered(c); status != http.StatusRequestTimeout || took != readStall {
			t.Errorf("%d after %v", status, took)
		}
	})
}

func TestSlowPushSucceeds(t *testing.T) {
	inMemory(t, echo, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		const size = 1 << 20
		fmt.Fprintf(c, "PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
		go func() {
			for range size / 2048 {
				time.Sleep(time.Second)
				c.Write(make([]byte, 2048))
			}
		}()
		if status, took := answered(c); status != http.StatusOK || took < 500*time.Second {
			t.Errorf("%d after %v", status, took)
		}
	})
}

func TestHandlersMayPauseBetweenReads(t *testing.T) {
	inMemory(t, func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			if _, err := io.ReadFull(r.Body, make([]byte, 100)); err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
			time.Sleep(2 * readStall) // like a slow disk
		}
	}, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		fmt.Fprint(c, "PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n")
		go func() {
			for range 3 {
				c.Write(make([]byte, 100))
			}
		}()
		if status, took := answered(c); status != http.StatusOK || took != 6*readStall {
			t.Errorf("%d after %v", status, took)
		}
	})
}

func TestHeldRequestOutlivesItsBodyDeadline(t *testing.T) {
	inMemory(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(time.Hour):
		case <-r.Context().Done():
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, context.Cause(r.Context()).Error())
		}
	}, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		for range 2 { // both on one connection
			body := strings.Repeat("x", 100)
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if status, took := answered(c); status != http.StatusOK || took != time.Hour {
				t.Errorf("%d after %v", status, took)
			}
		}
	})
}
