package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestRunningRequestsFinishWhenTheInstanceStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, stop := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, finish := make(chan struct{}), make(chan struct{})
	srv := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-finish
		if r.Context().Err() != nil {
			t.Error("the request was cancelled")
		}
		_, _ = io.WriteString(w, "whole")
	}), slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() {
		done <- serveThenDrain(ctx, srv, l, slog.New(slog.DiscardHandler), func() time.Duration {
			close(finish)
			return 0
		})
	}()
	answer := make(chan string, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		resp, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-started
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "whole" {
		t.Errorf("the client got %q", got)
	}
	if _, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
		t.Error("it still listens")
	}
}

func TestHeldRequestsEndWhenTheInstanceDrains(t *testing.T) {
	stop, drain := context.WithCancel(context.Background())
	held := make(chan struct{}, 2)
	ended := make(chan string, 2)
	other := make(chan struct{})
	h := cancelOnStop(stop, "/held", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-other:
		}
		ended <- r.URL.Path
	}))
	for _, path := range []string{"/held", "/other"} {
		go h.ServeHTTP(nil, httptest.NewRequest("POST", path, nil))
	}
	<-held
	<-held
	drain()
	if got := <-ended; got != "/held" {
		t.Errorf("%s ended", got)
	}
	close(other)
	<-ended
}
