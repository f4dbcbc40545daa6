// Package retry decides for all clients of other machines whether to retry a failed request,
// and when ([Permanent], [After], [NewBackoff]). It also ends requests whose response has
// stalled ([Watch], in stall.go).
//
// An error tells its properties by up to three methods, anywhere in its chain: StatusCode()
// int is the HTTP status of the peer's answer; Permanent() bool says whether a retry is
// useless, if the status alone does not; RetryAfter() time.Duration is the pause that the peer
// asked for.
package retry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxAfter is the longest pause that a peer can ask for.
const maxAfter = time.Hour

// WithoutURL removes the URL from an error of net/http, because a URL may contain a password or
// a signature. Callers say in their own words which request failed.
func WithoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Unanswered returns err, or what it means if the time for an answer is over: that peer, such as "the
// endpoint", did not answer within that time. The cause is still in its chain.
func Unanswered(err error, peer string, within time.Duration) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return unanswered{err, fmt.Sprintf("%s did not answer within %v seconds", peer, within.Seconds())}
}

type unanswered struct {
	cause error
	text  string
}

// Error implements error.
func (u unanswered) Error() string { return u.text }

// Unwrap returns the cause.
func (u unanswered) Unwrap() error { return u.cause }

// After returns the pause that the peer asked for, at most an hour; 0 if it asked for none.
func After(err error) time.Duration {
	var e interface{ RetryAfter() time.Duration }
	if errors.As(err, &e) {
		return min(e.RetryAfter(), maxAfter)
	}
	return 0
}

// Status returns the HTTP status of the peer's answer; 0 if there was no answer.
func Status(err error) int {
	var e interface{ StatusCode() int }
	if errors.As(err, &e) {
		return e.StatusCode()
	}
	return 0
}

// Answered reports whether the peer answered, which shows that the link is up.
func Answered(err error) bool { return Status(err) != 0 }

// Unauthorized reports whether the peer refused the credentials.
func Unauthorized(err error) bool { return Status(err) == http.StatusUnauthorized }

// Permanent reports whether a retry is useless unless something changes at the peer: the error
// says so itself, or its status is 400 to 499 other than 408 and 429. Any other error, such as
// that of a broken link, is worth a retry.
func Permanent(err error) bool {
	var e interface{ Permanent() bool }
	if errors.As(err, &e) {
		return e.Permanent()
	}
	switch s := Status(err); s {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return s >= 400 && s < 500
	}
}

// A Backoff returns growing pauses between tries.
type Backoff = backoff.ExponentialBackOff

// NewBackoff returns pauses from first to longest, each factor times as long as the one before.
// Each varies by up to 30 % at random, so that clients that fail together do not retry
// together.
func NewBackoff(first, longest time.Duration, factor float64) *Backoff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, longest, factor, 0.3
	b.Reset()
	return b
}

// Sleep returns nil after d, or when wake is closed or sends; wake may be nil. It returns ctx's
// cause when ctx ends.
func Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	if d <= 0 || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
