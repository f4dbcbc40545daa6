package mirror

import (
	"context"
	"errors"
	"time"

	"ferry/internal/retry"
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
	pauses := retry.NewBackoff(firstPause, maxPause, 1.5)
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case lasting(err) || !said(err):
			return err
		}
		if err := retry.Sleep(ctx, max(pauses.NextBackOff(), retry.After(err)), nil); err != nil {
			return err
		}
	}
}

// lasting reports whether err stays until something changes, at the source or here.
func lasting(err error) bool {
	return errors.As(err, new(hollow)) || retry.Permanent(err) || unusable(err)
}
