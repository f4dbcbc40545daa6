package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/retry"
)

type statusError int

func (s statusError) Error() string   { return fmt.Sprint("status ", int(s)) }
func (s statusError) StatusCode() int { return int(s) }

type permanenceError struct {
	error
	permanent bool
}

func (p permanenceError) Unwrap() error   { return p.error }
func (p permanenceError) Permanent() bool { return p.permanent }

type retryAfterError struct {
	error
	pause time.Duration
}

func (r retryAfterError) Unwrap() error             { return r.error }
func (r retryAfterError) RetryAfter() time.Duration { return r.pause }

func TestErrorsDecideWhetherAndWhenToRetry(t *testing.T) {
	broken := errors.New("connection reset by peer")
	for name, test := range map[string]struct {
		err       error
		permanent bool
		answered  bool
		after     time.Duration
	}{
		"none":                          {nil, false, false, 0},
		"a broken connection":           {broken, false, false, 0},
		"not found":                     {statusError(404), true, true, 0},
		"wrong credentials":             {statusError(401), true, true, 0},
		"time-out":                      {statusError(408), false, true, 0},
		"too many requests":             {retryAfterError{statusError(429), time.Minute}, false, true, time.Minute},
		"a server error":                {statusError(500), false, true, 0},
		"a pause of a day":              {retryAfterError{broken, 24 * time.Hour}, false, false, time.Hour},
		"a permanent broken connection": {permanenceError{broken, true}, true, false, 0},
		"not found, for now":            {permanenceError{statusError(404), false}, false, true, 0},
		"a permanent 503": {
			permanenceError{retryAfterError{statusError(503), time.Second}, true}, true, true, time.Second,
		},
	} {
		err := test.err
		if err != nil {
			err = fmt.Errorf("open blob: %w", err)
		}
		if got := retry.Permanent(err); got != test.permanent {
			t.Errorf("%s: Permanent = %v", name, got)
		}
		if got := retry.Answered(err); got != test.answered {
			t.Errorf("%s: Answered = %v", name, got)
		}
		if got := retry.After(err); got != test.after {
			t.Errorf("%s: After = %v, want %v", name, got, test.after)
		}
	}
}

func TestPausesGrowAndDifferBetweenClients(t *testing.T) {
	const clients, tries, first, most = 20, 80, 100 * time.Millisecond, 15 * time.Second
	var pauses [tries][]time.Duration
	for range clients {
		b := retry.NewBackoff(first, most, 1.1)
		for try := range tries {
			pauses[try] = append(pauses[try], b.NextBackOff())
		}
	}
	usual := float64(first)
	for try, all := range pauses {
		least, most := slices.Min(all), slices.Max(all)
		if float64(least) < usual/2 || float64(most) > usual*3/2 {
			t.Errorf("pause %d is from %v to %v, want about %v", try, least, most, time.Duration(usual))
		}
		if most-least < time.Duration(usual/10) {
			t.Errorf("pause %d is from %v to %v at %d clients: they try again together", try, least, most, clients)
		}
		usual = min(usual*1.1, float64(15*time.Second))
	}
}

func TestSleepEndsEarlyWhenWokenOrCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		if err := retry.Sleep(ctx, time.Minute, nil); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Sleep = %v after %v", err, time.Since(start))
		}
		wake := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(wake) })
		if err := retry.Sleep(ctx, time.Minute, wake); err != nil || time.Since(start) != 61*time.Second {
			t.Errorf("woken: Sleep = %v after %v", err, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { cancel(stop) })
		if err := retry.Sleep(ctx, time.Minute, nil); err != stop || time.Since(start) != 62*time.Second {
			t.Errorf("cancelled: Sleep = %v after %v", err, time.Since(start))
		}
		if err := retry.Sleep(ctx, 0, nil); err != stop {
			t.Errorf("after the end: Sleep = %v", err)
		}
	})
}

// A slowReader returns a byte every step, and blocks after the last one.
type slowReader struct {
	ctx  context.Context
	step time.Duration
	left int
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	s.left--
	time.Sleep(s.step)
	return 1, nil
}

func TestWatchdogEndsOnlyStalledResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, watchdog := retry.Watch(t.Context(), time.Second)
		body := watchdog.Body(io.NopCloser(&slowReader{ctx, 50 * time.Second, 10}), time.Minute)
		defer body.Close()
		start := time.Now()
		got, err := io.ReadAll(body)
		if len(got) != 10 || !errors.Is(err, retry.ErrStalled) || time.Since(start) != 560*time.Second {
			t.Errorf("%d bytes, %v after %v", len(got), err, time.Since(start))
		}
		if cause := watchdog.Cause(io.EOF); cause != retry.ErrStalled {
			t.Errorf("Cause = %v", cause)
		}
	})
}

func TestADeadlineIsSaidInWords(t *testing.T) {
	slow := fmt.Errorf("get: %w", context.DeadlineExceeded)
	err := retry.Unanswered(slow, "the endpoint", 15*time.Second)
	if err.Error() != "the endpoint did not answer within 15 seconds" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if other := errors.New("refused"); retry.Unanswered(other, "the endpoint", time.Second) != other {
		t.Error("another error was replaced")
	}
}
