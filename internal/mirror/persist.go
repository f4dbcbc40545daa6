package mirror

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"ferry/internal/oci"
)

// The pauses between questions to a source that cannot be reached.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// persist calls try until it succeeds, the source refuses, or ctx ends, whose
// cause it returns then. A source that says when to come back is left alone
// until then. said hears of every failure before the next try, and ends the
// tries by returning false.
func persist(ctx context.Context, said func(error) bool, try func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, maxPause
	pauses.Reset()
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case final(err) || !said(err):
			return err
		}
		timer := time.NewTimer(max(pauses.NextBackOff(), asked(err)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// asked returns how long the source wants to be left alone.
func asked(err error) time.Duration {
	var after interface{ RetryAfter() time.Duration }
	if errors.As(err, &after) {
		return after.RetryAfter()
	}
	return 0
}

// final reports whether the source refuses, and will go on to.
func final(err error) bool {
	if errors.Is(err, errEmptied) {
		return true
	}
	e := oci.AsError(err)
	return e != nil && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout
}
