package gateway

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkBeyondTheLimitWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		var working, most atomic.Int64
		for range 3 * maxWorking {
			go a.do(t.Context(), func() error {
				if n := working.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				working.Add(-1)
				return nil
			})
		}
		start := time.Now()
		time.Sleep(time.Hour)
		synctest.Wait()
		if most.Load() != maxWorking || working.Load() != 0 {
			t.Errorf("%d worked at a time, and %d work after %v; want %d and none", most.Load(), working.Load(),
				time.Since(start), maxWorking)
		}
	})
}

func TestRequestThatWouldWaitTooLongIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		work := func() error { time.Sleep(time.Minute); return nil }
		if err := a.enter(t.Context(), work); err != nil { // now the time that work takes is known
			t.Fatal(err)
		}
		for range 2 * maxWorking {
			go a.do(t.Context(), work)
		}
		synctest.Wait()
		err := a.check()
		if err == nil {
			t.Fatal("a request behind minutes of work is admitted")
		}
		s := &server{codec: newCodec(maxRequest)}
		w := httptest.NewRecorder()
		s.fail(w, httptest.NewRequest(http.MethodPost, "/gateway/v1/poll", nil), err)
		seconds, _ := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != http.StatusServiceUnavailable || seconds < busyRetryMin || seconds > busyRetryMax {
			t.Errorf("the answer is %d with Retry-After %d", w.Code, seconds)
		}
		time.Sleep(time.Hour)
		if err := a.check(); err != nil {
			t.Errorf("once the work is done: %v", err)
		}
	})
}

func TestStreamsAreLimited(t *testing.T) {
	a := newAdmission()
	var ends []func()
	for range maxStreams {
		end, err := a.stream()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	if _, err := a.stream(); err == nil {
		t.Error("one stream too many is admitted")
	}
	ends[0]()
	if _, err := a.stream(); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}
