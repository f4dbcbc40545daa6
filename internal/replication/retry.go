package replication

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"ferry/internal/gateway"
	"ferry/internal/oci"
)

// maxBackoff is the longest pause between two tries, so that a link that
// comes back is used soon.
const maxBackoff = 5 * time.Second

// retryAfter is implemented by errors of sources that say when to come back.
type retryAfter interface{ RetryAfter() time.Duration }

// permanent reports whether trying again without a change at the source is
// of no use. Everything that is not known to be so, a broken link above all,
// is worth another try.
func permanent(err error) bool {
	for _, final := range []error{gateway.ErrAlreadyActivated, gateway.ErrNotActivated, gateway.ErrUnauthorized, gateway.ErrUnknown, oci.ErrNoSpace, oci.ErrSizeInvalid} {
		if errors.Is(err, final) {
			return true
		}
	}
	if e := oci.AsError(err); e != nil {
		switch e.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return false
		}
		return e.Status >= 400 && e.Status < 500
	}
	return false
}

// patience is the pause between tries: short at first, and short again after
// any progress.
type patience struct{ backoff *backoff.ExponentialBackOff }

func newPatience() *patience {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.Multiplier = 1.7
	b.RandomizationFactor = 0.3
	b.MaxInterval = maxBackoff
	b.Reset()
	return &patience{b}
}

func (p *patience) reset() { p.backoff.Reset() }

// wait pauses after err, for as long as the source asked for if it did, or
// until ctx ends, whose cause it then returns.
func (p *patience) wait(ctx context.Context, err error) error {
	pause := p.backoff.NextBackOff()
	if asked := retryAfter(nil); errors.As(err, &asked) {
		pause = max(pause, min(asked.RetryAfter(), time.Hour))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w (the last try: %w)", context.Cause(ctx), err)
	}
}
