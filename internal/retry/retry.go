// Package retry is the one place for what all clients of other machines need
// when a request fails: whether to try again, when, and how to notice that an
// answer does not move.
//
// An error says what is known of it with up to three methods, anywhere in its
// chain: StatusCode() int, the HTTP status of the peer's answer; Permanent()
// bool, where the status does not say it; and RetryAfter() time.Duration, how
// long the peer asked not to be asked again. Begin with [Permanent].
package retry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxAfter bounds how long a peer can make its client wait.
const maxAfter = time.Hour

// WithoutURL drops the URL from an error of net/http: the caller names what it
// asked for, and a URL may hold a password or a signature.
func WithoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// After returns how long the peer asked not to be asked again, at most an
// hour; 0 if it did not ask.
func After(err error) time.Duration {
	var e interface{ RetryAfter() time.Duration }
	if errors.As(err, &e) {
		return min(e.RetryAfter(), maxAfter)
	}
	return 0
}

// Status returns the HTTP status with which the peer answered; 0 if there was
// no answer.
func Status(err error) int {
	var e interface{ StatusCode() int }
	if errors.As(err, &e) {
		return e.StatusCode()
	}
	return 0
}

// Answered reports whether err came with the peer's answer, so that the link
// is up.
func Answered(err error) bool { return Status(err) != 0 }

// Unauthorized reports whether the peer did not accept the credentials.
func Unauthorized(err error) bool { return Status(err) == http.StatusUnauthorized }

// Permanent reports whether another try is useless unless something changes at
// the peer: the error says so itself, or it is an answer of 400 to 499 other
// than 408 and 429. Any other error, such as that of a broken link, is worth
// another try.
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

// A Backoff returns the pauses between tries, one after the other.
type Backoff = backoff.ExponentialBackOff

// NewBackoff returns pauses from first to most, each factor times the one
// before. Each varies by up to 30 %, so that many clients that fail together
// do not try again together.
func NewBackoff(first, most time.Duration, factor float64) *Backoff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, most, factor, 0.3
	b.Reset()
	return b
}

// Sleep returns nil after d, or when wake, which may be nil, is closed or sends,
// and ctx's cause when ctx ends.
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
